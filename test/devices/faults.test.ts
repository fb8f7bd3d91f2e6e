import { expect } from 'chai'
import fs from 'node:fs/promises'
import path from 'node:path'
import { systemClock, type Clock } from '../../src/base/clock.ts'
import type { Log } from '../../src/base/log.ts'
import { MiB } from '../../src/base/size.ts'
import { Device, type Driver } from '../../src/device/device.ts'
import { DelayDriver } from '../../src/devices/faults/delay.ts'
import { ErrorDriver, type ErrorOptions } from '../../src/devices/faults/error.ts'
import { LogDriver } from '../../src/devices/faults/log.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation } from '../../src/device/request.ts'
import { ManualClock } from '../support/clock.ts'
import { removeFolder, temporaryFolder } from '../support/files.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { SeededRandom } from '../support/seeded.ts'

const random = new SeededRandom(1)

function memory(): Device {
  return new Device('top/0', new MemoryDriver(100_000, random), systemClock)
}

async function opened(driver: Driver, clock: Clock = systemClock): Promise<Device> {
  const device = new Device('top', driver, clock)
  await device.open()
  return device
}

async function faulty(options: ErrorOptions): Promise<Device> {
  return opened(new ErrorDriver(memory(), options, random))
}

describe('the last error of a device', () => {
  it('is one of its own, with its time, and not what a client asked for', async () => {
    const device = new Device('disk', new MemoryDriver(MiB, random), systemClock)
    await device.open()
    expect((await submit(device, Operation.read, MiB, 512)).error?.code).to.equal('RANGE')
    expect((await submit(device, Operation.read, 0, 0)).error?.code).to.equal('INVALID')
    expect(device.counters.lastError).to.equal(null)
    expect(device.counters.errors[Operation.read]).to.equal(2)
    await device.close()
    const top = await faulty({ code: 'IO' })
    const before = Date.now()
    await submit(top, Operation.read, 0, 512)
    expect(top.counters.lastError?.code).to.equal('IO')
    expect(top.counters.lastErrorAt).to.be.within(before, Date.now())
  })
})

describe('an error layer', () => {
  it('fails the operations it names, with the code it is given', async () => {
    const device = await faulty({ operations: ['write'], code: 'NO_SPACE' })
    await read(device, 0, 10)
    const failed = await submit(device, Operation.write, 0, 1, 0, [Buffer.from('x')])
    expect(failed.error?.code).to.equal('NO_SPACE')
    expect(failed.error?.device).to.equal('top')
    expect((await read(device, 0, 1))[0], 'a failed write changed nothing').to.equal(0)
    await device.close()
  })

  it('fails what touches its range', async () => {
    const device = await faulty({ range: { offset: 1000, length: 10 } })
    await read(device, 0, 1000)
    await read(device, 1010, 10)
    await flush(device)
    for (const [offset, length] of [
      [999, 2],
      [1009, 1],
      [0, 100_000],
    ] as const)
      expect((await submit(device, Operation.read, offset, length)).error?.code).to.equal('IO')
    await device.close()
  })

  it('fails about the share of requests it is told', async () => {
    const device = await faulty({ probability: 0.25 })
    let failed = 0
    for (let at = 0; at < 1000; at++)
      if ((await submit(device, Operation.read, 0, 1)).error !== null) failed++
    expect(failed).to.be.within(180, 320)
    await device.close()
  })

  it('fails while a file is there', async () => {
    const folder = await temporaryFolder()
    const file = path.join(folder, 'broken')
    const device = await faulty({ whileFileExists: file })
    await read(device, 0, 1)
    await fs.writeFile(file, '')
    expect((await submit(device, Operation.read, 0, 1)).error?.code).to.equal('IO')
    await fs.unlink(file)
    await read(device, 0, 1)
    await device.close()
    await removeFolder(folder)
  })

  it('is as well as the device below it', async () => {
    const below = memory()
    const device = await opened(new ErrorDriver(below, { probability: 0 }, random))
    below.online(below.facts!, 'degraded', 'one leg left')
    expect(device.state).to.include({ word: 'degraded', reason: 'one leg left' })
    below.offline('failed', 'burnt')
    expect(device.state).to.include({ word: 'failed', reason: 'burnt' })
    await device.close()
  })
})

describe('a delay layer', () => {
  it('holds what it names for a time between its bounds', async () => {
    const clock = new ManualClock()
    const driver = new DelayDriver(
      memory(),
      { operations: ['read'], min: 10, max: 20 },
      clock,
      random,
    )
    const device = await opened(driver, clock)
    await write(device, 0, Buffer.from('x'))
    let done = false
    const pending = submit(device, Operation.read, 0, 1).then((outcome) => {
      done = true
      return outcome
    })
    clock.advance(9)
    await Promise.resolve()
    expect(done).to.equal(false)
    clock.advance(11)
    expect((await pending).data.toString()).to.equal('x')
    await device.close()
  })

  it('keeps a closing device waiting for what it holds', async () => {
    const clock = new ManualClock()
    const device = await opened(
      new DelayDriver(memory(), { min: 10, max: 10 }, clock, random),
      clock,
    )
    const pending = submit(device, Operation.read, 0, 1)
    const closed = device.close()
    clock.advance(10)
    expect((await pending).error).to.equal(null)
    await closed
  })
})

describe('a log layer', () => {
  it('logs each request once, failures as warnings', async () => {
    const lines: [string, Record<string, unknown>][] = []
    const line = (level: string) => (fields: object) =>
      void lines.push([level, { ...fields, ms: 0 }])
    const log: Log = {
      debug: line('debug'),
      info: line('info'),
      warn: line('warn'),
      error: line('error'),
    }
    const below = new ErrorDriver(memory(), { operations: ['trim'] }, random)
    const driver = new LogDriver(
      new Device('top/0', below, systemClock),
      { operations: ['read', 'trim'], level: 'info' },
      log,
      systemClock,
    )
    const device = await opened(driver)
    await write(device, 0, Buffer.from('x'))
    await read(device, 5, 10)
    await submit(device, Operation.trim, 0, 10)
    const request = { device: 'top', flags: 0, length: 10, ms: 0 }
    expect(lines).to.deep.equal([
      ['info', { ...request, operation: 'read', offset: 5 }],
      [
        'warn',
        { ...request, operation: 'trim', offset: 0, code: 'IO', error: 'trim fails on purpose' },
      ],
    ])
    await device.close()
  })
})
