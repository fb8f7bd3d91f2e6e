import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { LossReport } from '../../src/device/loss-report.ts'
import { Flag, Operation, Request } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, submit, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, HeldStore, later, MemoryStore, outcome, pattern } from './head.ts'

const settings = { intentIdleMs: 1_000_000 }

/** A head whose legs have flushed 1 at the beginning, and have 2 there in their caches. */
async function withUnflushed(
  legs: Record<string, Disk>,
  more: object = {},
  store = new MemoryStore(),
): Promise<Head> {
  for (const disk of Object.values(legs)) disk.said = { fua: 'emulated' }
  const head = await new Head(legs, store, { ...settings, ...more }).open()
  // Both extents are in the log from here on, so that nothing flushes but what is to.
  await write(head.device, 0, pattern(1))
  await write(head.device, 8 * extentSize, pattern(1))
  await flush(head.device)
  await write(head.device, 0, pattern(2))
  return head
}

function hasLeft(head: Head, leg: string): boolean {
  return head.history().some((entry) => entry.leg === leg && entry.text.startsWith('left as'))
}

/** What makes the mirror flush a leg, or write what is flushed with it. */
const occasions: Record<string, (head: Head, legs: Record<string, Disk>) => unknown> = {
  'for a client': (head) => flush(head.device),
  'behind a forced write': (head) =>
    submit(head.device, Operation.write, 8 * extentSize, 4096, Flag.fua, [pattern(3)]),
  'behind forced zeroes': (head) =>
    submit(head.device, Operation.writeZeroes, 8 * extentSize, 4096, Flag.fua),
  'behind a page of the intent log': (head) => write(head.device, 9 * extentSize, pattern(3)),
  'behind a superblock': (_head, { c }) => {
    c!.goAway()
  },
  'behind a dirty map': async (head, { c }) => {
    c!.goAway()
    await write(head.device, 8 * extentSize, pattern(3))
  },
  'to make a growth ready': (_head, legs) => {
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
  },
  'to detach it': (head) => outcome(head.driver.detachLeg('b')),
}

describe('a flush that fails on one leg', () => {
  for (const [what, act] of Object.entries(occasions))
    it(`costs it all that it had not flushed, if it was sent ${what}`, async () => {
      const legs = disks('a', 'b', 'c')
      const head = await withUnflushed(legs)
      let failed = false
      legs['b']!.dropAtFlush(() => (failed = true))
      void act(head, legs)
      await head.until('the flush fails', () => failed)
      await head.until('b left', () => hasLeft(head, 'b'))
      await head.inSync('a', 'b')
      expect(await outcome(flush(head.device))).to.equal('done')
      const both = [(await read(head.device, 0, 4096))[0], (await read(head.device, 0, 4096))[0]]
      expect({ b: legs['b']!.cached[0], both }).to.deep.equal({ b: 2, both: [2, 2] })
      expect(head.device.losses, 'nothing is lost').to.equal(0)
      await head.device.close()
    })

  it('costs it that also when it is the one of the log being cleaned', async () => {
    const legs = disks('a', 'b')
    const head = await withUnflushed(legs, { intentIdleMs: 20 })
    legs['b']!.dropAtFlush()
    await head.until('b left', () => hasLeft(head, 'b'))
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('costs it that also when it fails only after the leg was given up', async () => {
    const legs = disks('a', 'b')
    const head = await withUnflushed(legs, { legTimeoutMs: 60 })
    const b = legs['b']!
    b.hold = ({ operation }) => operation === Operation.flush
    await flush(head.device)
    await head.until('b left', () => head.state('b') === 'missing')
    b.dropAtFlush()
    b.letGo()
    b.hold = () => false
    await head.inSync('a', 'b')
    expect(b.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('costs a leg being filled what was copied to it and not flushed', async () => {
    const legs = disks('a', 'b')
    const head = await withUnflushed(legs)
    const b = legs['b']!
    b.goAway()
    await write(head.device, 0, pattern(3, 2 * extentSize))
    await head.until('b left', () => head.state('b') === 'missing')
    let failed = false
    // The first flush is that of its superblock; the next one that of the copies.
    let superblock = true
    b.fault = ({ operation, offset }) => {
      if (operation === Operation.write && offset < 2 * extentSize) {
        superblock = false
        if (!failed) b.dropAtFlush(() => (failed = true))
      }
      return null
    }
    b.comeBack()
    await head.until('the flush fails', () => failed && !superblock)
    await head.inSync('a', 'b')
    expect([b.cached[0], b.cached[extentSize + 1]]).to.deep.equal([3, 3])
    await head.device.close()
  })

  it('is remembered when every leg is lost for a moment before that is durable', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await withUnflushed(legs, {}, store)
    const { a, b } = legs
    const open = store.shut()
    a!.dropAtFlush()
    const flushing = outcome(flush(head.device))
    await head.until('a left', () => head.state('a') === 'failed')
    b!.goAway()
    await later(20)
    b!.comeBack()
    open()
    await flushing
    await head.inSync('a', 'b')
    const found = (await read(head.device, 0, 4096))[0]
    expect([found, a!.cached[0], b!.cached[0], head.device.losses]).to.deep.equal([2, 2, 2, 0])
    await head.device.close()
  })

  it('is remembered when the volume gives up because the record cannot be saved', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await withUnflushed(legs, { suspendMs: 100 }, store)
    const { a, b } = legs
    const save = store.save.bind(store)
    store.save = () => Promise.reject(new Error('the disk is full'))
    a!.dropAtFlush()
    await outcome(flush(head.device))
    await later(800)
    store.save = save
    await head.inSync('a', 'b')
    expect((await read(head.device, 0, 4096))[0]).to.equal(2)
    expect([a!.cached[0], b!.cached[0]]).to.deep.equal([2, 2])
    await head.device.close()
  })
})

function told(report: LossReport): string {
  const request = Request.take(Operation.flush, 0, 0, 0, { completed: () => undefined })
  report.tell(request)
  const code = request.error?.code ?? 'nothing'
  request.abandon()
  return code
}

/** What the last leg fails at, which clients of its volume are to be told of. */
const lastOccasions: Record<string, (head: Head) => Promise<unknown>> = {
  'for a client': (head) => outcome(flush(head.device)),
  'behind a forced write': (head) =>
    submit(head.device, Operation.write, 8 * extentSize, 4096, Flag.fua, [pattern(3)]),
  'behind a page of the intent log': (head) =>
    outcome(write(head.device, 9 * extentSize, pattern(3))),
}

describe('a flush that fails on the last leg', () => {
  for (const [what, act] of Object.entries(lastOccasions))
    it(`is told to every client, if it was sent ${what}`, async () => {
      const legs = disks('a', 'b')
      const head = await withUnflushed(legs)
      const { a, b } = legs
      b!.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      await write(head.device, 0, pattern(4))
      const others = [new LossReport(head.device), new LossReport(head.device)]
      const bootId = head.device.facts!.bootId
      a!.dropAtFlush()
      await act(head)
      await head.until('it goes on', () => head.device.usable && head.device.losses > 0)
      await outcome(write(head.device, 5 * extentSize, pattern(5)))
      expect(others.map(told)).to.deep.equal(['STALE', 'STALE'])
      expect(others.map(told)).to.deep.equal(['nothing', 'nothing'])
      expect(head.device.facts!.bootId).to.not.equal(bootId)
      expect(await outcome(flush(head.device))).to.equal('done')
      b!.comeBack()
      await head.inSync('a', 'b')
      const found = (await read(head.device, 0, 4096))[0]
      expect([found, a!.cached[0], b!.cached[0]]).to.deep.equal(Array(3).fill(found))
      await head.device.close()
    })

  it('is told to every client, if it was sent behind a superblock', async () => {
    const legs = disks('a', 'b')
    const head = await withUnflushed(legs)
    const report = new LossReport(head.device)
    legs['a']!.failOnce(
      ({ operation, offset }) =>
        operation === Operation.write &&
        [0, 1].map((slot) => superblockOffset(4 * MiB, slot)).includes(offset),
    )
    legs['a']!.say({ fua: 'native' })
    legs['b']!.goAway()
    await head.until('it goes on', () => head.device.losses > 0 && head.device.usable)
    expect(told(report)).to.equal('STALE')
    await head.device.close()
  })

  it('does not let a write be acknowledged that only it had', async () => {
    const legs = disks('a', 'b')
    const head = await withUnflushed(legs)
    const { a, b } = legs
    b!.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    await write(head.device, 2 * extentSize, pattern(3))
    // It is filled, and does not answer this write.
    b!.hold = ({ operation, offset }) =>
      operation === Operation.write && [0, 2 * extentSize].includes(offset)
    b!.comeBack()
    await head.until('b is being filled', () => head.state('b') === 'syncing')
    const writing = outcome(write(head.device, 0, pattern(4)))
    await head.until('a has it', () => a!.cached[0] === 4)
    a!.dropAtFlush()
    await outcome(flush(head.device))
    b!.letGo()
    b!.hold = () => false
    const wrote = await writing
    await head.inSync('a', 'b')
    const found = (await read(head.device, 0, 4096))[0]
    if (wrote === 'done') expect(found).to.equal(4)
    expect([a!.cached[0], b!.cached[0]]).to.deep.equal([found, found])
    await head.device.close()
  })
})
