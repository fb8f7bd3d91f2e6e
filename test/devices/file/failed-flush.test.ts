import { expect } from 'chai'
import { systemClock } from '../../../src/base/clock.ts'
import { StorageError } from '../../../src/base/errors.ts'
import { Device } from '../../../src/device/device.ts'
import { LinearDriver } from '../../../src/devices/linear.ts'
import { LossReport } from '../../../src/device/loss-report.ts'
import { Flag, Operation, Request } from '../../../src/device/request.ts'
import { submit, write } from '../../support/io.ts'
import { LossyDriver } from '../../support/lossy.ts'

const block = Buffer.alloc(4096, 1)

describe('a flush that a device fails', () => {
  const failure = new StorageError('IO', 'the disk is bad')
  let driver: LossyDriver
  let leaf: Device
  beforeEach(async () => {
    driver = new LossyDriver()
    leaf = new Device('leaf', driver, systemClock)
    await leaf.open()
  })
  afterEach(() => leaf.close())

  /** The driver answers the flush that it holds so. */
  async function flushEnding(error: StorageError | null, flags = -1) {
    driver.holdFlushes = true
    const ended =
      flags < 0
        ? submit(leaf, Operation.flush, 0, 0)
        : submit(leaf, Operation.write, 8192, 4096, flags, [block])
    await until(() => driver.flushes.length > 0)
    const request = driver.flushes.pop()!
    driver.holdFlushes = false
    if (error === null) request.complete()
    else request.fail(error)
    return (await ended).error?.code ?? 'done'
  }

  it('begins another life of its cache, and is told to every client once', async () => {
    const reports = [new LossReport(leaf), new LossReport(leaf)]
    const { bootId } = leaf.facts!
    await write(leaf, 0, block)
    expect(await flushEnding(failure)).to.equal('IO')
    expect([leaf.losses, leaf.flushError]).to.deep.equal([1, failure])
    expect(leaf.facts!.bootId)
      .to.match(/^[0-9a-f]{32}$/)
      .and.not.equal(bootId)
    expect(reports.map((report) => codeOf(report))).to.deep.equal(['STALE', 'STALE'])
    expect(reports.map((report) => codeOf(report))).to.deep.equal(['done', 'done'])
  })

  it('is not told a second time to the client that sent it', async () => {
    const report = new LossReport(leaf)
    await write(leaf, 0, block)
    await flushEnding(failure)
    expect(codeOf(report, failure)).to.equal('IO')
    expect(codeOf(report)).to.equal('done')
  })

  it('is one also behind a forced write, sent by the device itself or below it', async () => {
    await write(leaf, 0, block)
    expect(await flushEnding(failure, Flag.fua)).to.equal('IO')
    expect(leaf.losses).to.equal(1)
    driver.say({ fua: 'native' })
    await write(leaf, 0, block)
    driver.failing = failure
    expect(
      (await submit(leaf, Operation.write, 8192, 4096, Flag.fua, [block])).error?.code,
    ).to.equal('IO')
    expect(leaf.losses).to.equal(2)
  })

  it('is none where a forced write finds no space, unless the flush is not seen', async () => {
    const full = new StorageError('NO_SPACE', 'the disk is full')
    driver.say({ fua: 'native' })
    for (const unseen of [false, true]) {
      Object.assign(driver, { flushesUnseen: unseen, failing: null })
      await write(leaf, 0, block)
      const { bootId } = leaf.facts!
      driver.failing = full
      expect(
        (await submit(leaf, Operation.write, 8192, 4096, Flag.fua, [block])).error?.code,
      ).to.equal('NO_SPACE')
      expect(leaf.facts!.bootId !== bootId).to.equal(unseen)
    }
    driver.failing = null
    // A flush has no other way to say so than that what was written found no place.
    await write(leaf, 0, block)
    expect(await flushEnding(full)).to.equal('NO_SPACE')
    expect(leaf.losses).to.equal(2)
  })

  it('is none where it was refused or not answered', async () => {
    const { bootId } = leaf.facts!
    await write(leaf, 0, block)
    for (const code of ['UNAVAILABLE', 'TIMEOUT', 'STALE', 'BUSY', 'FENCED'] as const)
      expect(await flushEnding(new StorageError(code, 'no'))).to.equal(code)
    expect(
      (await submit(leaf, Operation.write, 1 << 30, 4096, Flag.fua, [block])).error?.code,
    ).to.equal('RANGE')
    driver.failing = failure
    expect((await submit(leaf, Operation.write, 0, 4096, 0, [block])).error?.code).to.equal('IO')
    expect([leaf.losses, leaf.facts!.bootId]).to.deep.equal([0, bootId])
  })

  it('counts once, however many flushes end with it, and never where nothing is lost', async () => {
    await write(leaf, 0, block)
    driver.holdFlushes = true
    const flushes = [submit(leaf, Operation.flush, 0, 0), submit(leaf, Operation.flush, 0, 0)]
    await until(() => driver.flushes.length === 2)
    for (const request of driver.flushes.splice(0)) request.fail(failure)
    await Promise.all(flushes)
    expect(leaf.losses).to.equal(1)
    const { bootId } = leaf.facts!
    await flushEnding(failure)
    expect([leaf.losses, leaf.facts!.bootId]).to.deep.equal([1, bootId])
  })

  it('fails what was under way then and succeeds after it: that may be lost as well', async () => {
    await write(leaf, 0, block)
    driver.holdWrites = true
    const writing = submit(leaf, Operation.write, 4096, 4096, 0, [block])
    const forced = submit(leaf, Operation.write, 8192, 4096, Flag.fua, [block])
    await until(() => driver.writes.length === 2)
    const other = submit(leaf, Operation.flush, 0, 0)
    await flushEnding(failure)
    await other
    driver.holdWrites = false
    for (const request of driver.writes.splice(0)) request.complete()
    expect((await writing).error?.code).to.equal('STALE')
    expect((await forced).error?.code).to.equal('STALE')
    expect((await submit(leaf, Operation.write, 4096, 4096, 0, [block])).error).to.equal(null)
  })

  it('is remembered when the driver says again what it said before', async () => {
    await write(leaf, 0, block)
    await flushEnding(failure)
    const { bootId } = leaf.facts!
    driver.say({ rotational: true })
    expect([leaf.facts!.bootId, leaf.losses]).to.deep.equal([bootId, 1])
    driver.loseCache(3)
    expect([leaf.facts!.bootId, leaf.flushError]).to.deep.equal(['3'.repeat(32), null])
  })

  it('is a loss at every level above it', async () => {
    const driver = new LossyDriver()
    const part = new Device('top/0', driver, systemClock)
    const top = new Device('top', new LinearDriver([part]), systemClock)
    await top.open()
    const { bootId } = top.facts!
    await write(top, 0, block)
    driver.failing = failure
    driver.failsFlushes = true
    expect((await submit(top, Operation.flush, 0, 0)).error?.code).to.equal('IO')
    expect([part.losses, top.losses, top.facts!.bootId === bootId]).to.deep.equal([1, 1, false])
    await top.close()
  })
})

function codeOf(report: LossReport, error: StorageError | null = null): string {
  const request = Request.take(Operation.flush, 0, 0, 0, { completed: () => undefined })
  request.error = error
  report.tell(request)
  const code = request.error?.code ?? 'done'
  request.abandon()
  return code
}

async function until(so: () => boolean): Promise<void> {
  while (!so()) await new Promise((resolve) => setImmediate(resolve))
}
