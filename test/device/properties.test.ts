import { expect } from 'chai'
import fc from 'fast-check'
import { systemClock } from '../../src/base/clock.ts'
import { MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device, type Facts } from '../../src/device/device.ts'
import { extentRunsMax, Extents } from '../../src/device/extents.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Flag, Operation, Request } from '../../src/device/request.ts'
import { conformance } from '../support/conformance.ts'
import { read, submit, write } from '../support/io.ts'
import { StrictDriver } from '../support/strict.ts'
import { SeededRandom } from '../support/seeded.ts'

const random = new SeededRandom(1)

async function strict(size: number, limits: Partial<Facts>): Promise<[Device, StrictDriver]> {
  const driver = new StrictDriver(size, limits, random)
  const device = new Device('strict', driver, systemClock)
  await device.open()
  return [device, driver]
}

const poor: Partial<Facts> = {
  blockSize: 512,
  payloadMax: 64 * 512,
  fua: 'emulated',
  trim: 'none',
  writeZeroes: 'emulated',
  fastZero: false,
  status: 'emulated',
}

conformance('a driver that can do little', async (size) => {
  const [device] = await strict(size, poor)
  return { device, dispose: () => undefined }
})

conformance('a driver that forces unit access but cannot zero', async (size) => {
  const [device] = await strict(size, { ...poor, blockSize: 1, fua: 'native', trim: 'native' })
  return { device, dispose: () => undefined }
})

conformance('a linear of drivers that can do different things', async (size) => {
  const parts = [poor, {}, { ...poor, blockSize: 4096, payloadMax: 12_288 }].map(
    (limits, index) =>
      new Device(`l/${index}`, new StrictDriver(size / 2, limits, random), systemClock),
  )
  const device = new Device('l', new LinearDriver(parts), systemClock)
  await device.open()
  return { device, dispose: () => undefined }
})

describe('emulation', () => {
  it('flushes after what was forced, not before', async () => {
    const [device, driver] = await strict(MiB, poor)
    await write(device, 0, Buffer.alloc(40_960), Flag.fua)
    const writes = driver.seen.slice(0, -1)
    expect(writes.every((seen) => seen.startsWith('1 '))).to.equal(true)
    expect(driver.seen.at(-1)).to.equal('2 0+0 0')
    await device.close()
  })

  it('forces every zero that it writes', async () => {
    const [device, driver] = await strict(MiB, { ...poor, fua: 'native' })
    const outcome = await submit(device, Operation.writeZeroes, 0, MiB, Flag.fua)
    expect(outcome.error).to.equal(null)
    expect(driver.seen.every((seen) => seen.startsWith('1 ') && seen.endsWith(' 1'))).to.equal(true)
    await device.close()
  })

  it('reports what failed, once, and no bytes', async () => {
    const [device, driver] = await strict(MiB, poor)
    driver.badByte = 500_000
    for (const operation of [Operation.read, Operation.writeZeroes]) {
      const outcome = await submit(device, operation, 0, MiB)
      expect(outcome.error?.code).to.equal('IO')
      expect(outcome.data.length).to.equal(0)
    }
    expect(device.counters.errors).to.deep.equal([1, 0, 0, 0, 1, 0])
    await device.close()
  })
})

describe('a request', () => {
  it('lends any range of another’s segments, and holds its leases', () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 20 }), { minLength: 1, maxLength: 10 })
    const share = fc.double({ min: 0, max: 1, noNaN: true })
    fc.assert(
      fc.property(pieces, share, share, (parts, first, second) => {
        const slab = new Slab()
        const nobody = { completed: () => undefined }
        const whole = Request.take(Operation.write, 0, 0, 0, nobody)
        for (const part of parts) whole.append(Buffer.from(part), slab.take(1))
        const bytes = Buffer.concat(parts)
        const from = Math.floor(first * bytes.length)
        const length = Math.floor(second * (bytes.length - from))
        const range = Request.take(Operation.write, 0, length, 0, nobody)
        range.shareRange(whole, from, length)
        const expected = bytes.subarray(from, from + length)
        expect(Buffer.concat(range.segments).equals(expected)).to.equal(true)
        expect(range.payloadBytes).to.equal(length)
        whole.complete()
        whole.release()
        expect(slab.bytesHeld > 0).to.equal(range.leases.length > 0)
        range.complete()
        range.release()
        expect(slab.bytesHeld).to.equal(0)
      }),
    )
  })

  it('completes once, and is released once', () => {
    const request = Request.take(Operation.flush, 0, 0, 0, { completed: () => undefined })
    expect(() => request.release(), 'before it completed').to.throw('released once')
    request.complete()
    expect(() => request.complete()).to.throw('completes once')
    request.release()
    expect(() => request.release()).to.throw('released once')
  })

  it('has its offset back at every level', async () => {
    const parts = ['l/0', 'l/1'].map(
      (path) => new Device(path, new MemoryDriver(1000, random), systemClock),
    )
    const device = new Device('l', new LinearDriver(parts), systemClock)
    await device.open()
    const request = await new Promise<Request>((resolve) => {
      device.submit(Request.take(Operation.read, 1234, 10, 0, { completed: resolve }))
    })
    expect(request.offset).to.equal(1234)
    request.release()
    await device.close()
  })
})

describe('extents', () => {
  it('join equal runs and stop when they are full', () => {
    const run = fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 0, max: 3 }))
    fc.assert(
      fc.property(fc.array(run, { maxLength: 50 }), (runs) => {
        const extents = new Extents()
        for (const [length, flags] of runs) expect(extents.add(length, flags)).to.equal(true)
        expect(extents.covered).to.equal(runs.reduce((sum, [length]) => sum + length, 0))
        for (let at = 1; at < extents.flags.length; at++)
          expect(extents.flags[at]).to.not.equal(extents.flags[at - 1])
      }),
    )
    const full = new Extents()
    for (let at = 0; at < extentRunsMax; at++) expect(full.add(1, at & 1)).to.equal(true)
    expect(full.add(1, 0)).to.equal(false)
    expect(full.covered).to.equal(extentRunsMax)
  })
})

describe('a linear, for any parts', () => {
  it('is the bytes of its parts in order', async () => {
    const size = fc.integer({ min: 1, max: 200_000 })
    const share = fc.double({ min: 0, max: 1, noNaN: true })
    await fc.assert(
      fc.asyncProperty(
        fc.array(size, { minLength: 1, maxLength: 12 }),
        fc.array(fc.tuple(share, share), { minLength: 1, maxLength: 6 }),
        async (sizes, ranges) => {
          const parts = sizes.map(
            (bytes, at) => new Device(`l/${at}`, new MemoryDriver(bytes, random), systemClock),
          )
          const device = new Device('l', new LinearDriver(parts), systemClock)
          await device.open()
          const total = sizes.reduce((sum, bytes) => sum + bytes, 0)
          expect(device.facts!.size).to.equal(total)
          const model = Buffer.alloc(total)
          for (const [first, second] of ranges) {
            const offset = Math.floor(first * (total - 1))
            const length = 1 + Math.floor(second * (total - offset - 1))
            const data = random.bytes(length)
            await write(device, offset, data)
            data.copy(model, offset)
            const status = await submit(device, Operation.status, offset, length)
            expect(status.lengths.reduce((sum, run) => sum + run, 0)).to.equal(length)
          }
          const inParts: Buffer[] = []
          for (const part of parts) inParts.push(await read(part, 0, part.facts!.size))
          expect(Buffer.concat(inParts).equals(model)).to.equal(true)
          expect((await read(device, 0, total)).equals(model)).to.equal(true)
          await device.close()
        },
      ),
      { numRuns: 40 },
    )
  })
})
