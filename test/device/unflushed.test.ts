import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { LossReport } from '../../src/device/loss-report.ts'
import { Flag, Operation, Request } from '../../src/device/request.ts'
import { flush, submit, write } from '../support/io.ts'
import { LossyDriver } from '../support/lossy.ts'

const block = Buffer.alloc(4096, 1)

describe('what a device that loses its cache had not flushed', () => {
  let driver: LossyDriver
  let leaf: Device
  let device: Device
  beforeEach(async () => {
    driver = new LossyDriver()
    leaf = new Device('top/0', driver, systemClock)
    device = new Device('top', new LinearDriver([leaf]), systemClock)
    await device.open()
  })
  afterEach(() => device.close())

  it('is no loss when nothing was written since a flush, or all of it was forced', async () => {
    await flush(device)
    driver.loseCache(1)
    await write(device, 0, block)
    await flush(device)
    await write(device, 0, block, Flag.fua)
    driver.loseCache(2)
    expect([device.losses, leaf.losses]).to.deep.equal([0, 0])
  })

  it('is a loss also when an earlier process left it, until a flush covers that', () => {
    const [early, late] = [new LossReport(device), new LossReport(device)]
    driver.loseCache(1)
    driver.loseCache(2)
    expect([device.losses, leaf.losses]).to.deep.equal([1, 1])
    expect([toldBy(early), toldBy(late), toldBy(late)]).to.deep.equal(['STALE', 'STALE', 'done'])
  })

  it('is a loss at every level that acknowledged it', async () => {
    await write(device, 0, block)
    driver.loseCache(1)
    driver.loseCache(2)
    expect([device.losses, leaf.losses]).to.deep.equal([1, 1])
  })

  it('is not covered by a flush that was sent before the answer', async () => {
    driver.holdFlushes = true
    const flushing = flush(device)
    await write(device, 0, block)
    driver.flushes[0]!.complete()
    await flushing
    driver.loseCache(1)
    expect(device.losses).to.equal(1)
  })

  it('fails a forced write whose bytes are gone before its flush', async () => {
    driver.holdFlushes = true
    const writing = submit(device, Operation.write, 0, 4096, Flag.fua, [block])
    driver.loseCache(1)
    driver.flushes[0]!.complete()
    expect((await writing).error?.code).to.equal('STALE')
  })
})

/** What a flush that has succeeded says to a client. */
function toldBy(report: LossReport): string {
  const request = Request.take(Operation.flush, 0, 0, 0, { completed: () => undefined })
  report.tell(request)
  const code = request.error?.code ?? 'done'
  request.abandon()
  return code
}

describe('a write in parts, of which some are gone before the last is answered,', () => {
  const long = Buffer.alloc(8192, 1)

  it('fails where one part of a linear lost its cache and another is slow', async () => {
    const [lossy, slow] = [new LossyDriver(), new LossyDriver()]
    const parts = [lossy, slow].map((driver, at) => new Device(`l/${at}`, driver, systemClock))
    const device = new Device('l', new LinearDriver(parts), systemClock)
    await device.open()
    await flush(device)
    slow.holdWrites = true
    const across = submit(device, Operation.write, 65_536 - 4096, 8192, 0, [long])
    lossy.loseCache(1)
    slow.writes[0]!.complete()
    expect((await across).error?.code, 'or a flush would vouch for it').to.equal('STALE')
    expect(device.losses, 'nothing was acknowledged').to.equal(0)
    await device.close()
  })

  it('fails where it was too long for one request', async () => {
    const driver = new LossyDriver({ payloadMax: 4096 })
    const device = new Device('d', driver, systemClock)
    await device.open()
    driver.holdWrites = true
    const written = submit(device, Operation.write, 0, 8192, 0, [long])
    driver.writes[1]!.complete()
    // This one was not sent yet, and is of no boot.
    driver.loseCache(1)
    driver.writes[0]!.complete()
    expect((await written).error?.code).to.equal('STALE')
    const later = submit(device, Operation.write, 0, 8192, 0, [long])
    driver.loseCache(2)
    for (const part of driver.writes.slice(2)) part.complete()
    expect((await later).error, 'nothing of it was there to be lost').to.equal(null)
    await device.close()
  })
})
