import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Flag, Operation, type Request } from '../../src/device/request.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, HeldStore, later, MemoryStore, outcome, pattern } from './head.ts'

const isWriteAt = ({ operation, offset }: Request, start: number): boolean =>
  operation === Operation.write && offset === start

const atStart = (request: Request): boolean => isWriteAt(request, 0)

/** What became of a write, of the flush after it, and what is read then. */
async function outcomes(head: Head, writing: Promise<string>) {
  const wrote = await writing
  const flushed = await outcome(flush(head.device))
  const found = (await read(head.device, 0, 4096))[0]
  return { wrote, flushed, found }
}

const silentlyLost = { wrote: 'done', flushed: 'done', found: 1 }

// A write is on the last leg, and is not acknowledged yet, when that leg loses its cache: the loss
// is told then, and an acknowledgement after it would never be taken back.
describe('a write that only the last leg has, which loses its cache', () => {
  let legs: Record<string, Disk>
  let a: Disk
  let b: Disk
  beforeEach(() => {
    legs = disks('a', 'b')
    a = legs['a']!
    b = legs['b']!
  })

  async function flushedOnce(store = new MemoryStore(), settings = {}): Promise<Head> {
    const head = await new Head(legs, store, settings).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    return head
  }

  it('is not acknowledged where it waits for more legs', async () => {
    const head = await flushedOnce(new MemoryStore(), { minInSync: 2 })
    b.hold = atStart
    const writing = outcome(write(head.device, 0, pattern(2)))
    await head.until('a has it', () => a.cached[0] === 2)
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    b.hold = () => false
    await later(50)
    // So quickly that nobody saw it go; nothing is under way on it.
    a.restart()
    b.comeBack()
    await writing
    await head.inSync('a', 'b')
    expect(await outcomes(head, writing)).to.not.deep.equal(silentlyLost)
    await head.device.close()
  })

  it('is not acknowledged where it waits for the head to save that another left', async () => {
    const store = new HeldStore()
    const head = await flushedOnce(store)
    const open = store.shut()
    b.hold = () => true
    const writing = outcome(write(head.device, 0, pattern(2)))
    await head.until('a has it', () => a.cached[0] === 2)
    b.goAway()
    await later(20)
    a.restart()
    await later(20)
    open()
    expect(await outcomes(head, writing)).to.not.deep.equal(silentlyLost)
    await head.device.close()
  })

  for (const how of ['restarts', 'fails a flush'])
    it(`is not acknowledged where a leg being filled has not answered (it ${how})`, async () => {
      const head = await flushedOnce()
      b.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      await write(head.device, 2 * extentSize, pattern(3))
      await flush(head.device)
      // Also of what is copied, so that b cannot be whole before anybody looks.
      b.hold = (one) => atStart(one) || isWriteAt(one, 2 * extentSize)
      b.comeBack()
      await head.until('b is being filled', () => head.state('b') === 'syncing')
      const writing = outcome(write(head.device, 0, pattern(2)))
      await head.until('a has it', () => a.cached[0] === 2)
      if (how === 'restarts') a.restart()
      else {
        a.dropAtFlush()
        await outcome(flush(head.device))
      }
      b.letGo()
      b.hold = () => false
      await writing
      await head.inSync('a', 'b')
      const { wrote, found } = await outcomes(head, writing)
      expect({ wrote, found }).to.not.deep.equal({ wrote: 'done', found: 1 })
      expect([a.cached[0], b.cached[0]]).to.deep.equal([found, found])
      await head.device.close()
    })

  it('is not acknowledged where a flush of the mirror itself failed meanwhile', async () => {
    const head = await flushedOnce(new MemoryStore(), { minInSync: 2, intentIdleMs: 100 })
    b.hold = atStart
    const writing = outcome(write(head.device, 0, pattern(2)))
    await head.until('a has it', () => a.cached[0] === 2)
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    b.hold = () => false
    let dropped = false
    a.dropAtFlush(() => (dropped = true))
    await head.until('the log is being cleaned', () => dropped)
    b.comeBack()
    await writing
    await head.inSync('a', 'b')
    expect(await outcomes(head, writing)).to.not.deep.equal(silentlyLost)
    await head.device.close()
  })

  it('costs nothing else: what waited is carried out, and nothing is called lost', async () => {
    const head = await flushedOnce()
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    await write(head.device, 0, pattern(2))
    await flush(head.device)
    a.restart()
    expect(await outcome(write(head.device, extentSize, pattern(3)))).to.equal('done')
    expect([head.device.losses, (await read(head.device, 0, 4096))[0]]).to.deep.equal([0, 2])
    await head.device.close()
  })
})

describe('a disk that dropped what it could not write, and says so at the next flush only', () => {
  const isData = ({ operation, offset }: Request): boolean =>
    operation === Operation.read && offset === 0
  const isFlush = ({ operation }: Request): boolean => operation === Operation.flush
  const flushes = (request: Request): boolean =>
    isFlush(request) || (request.flags & Flag.fua) !== 0

  /** The next reading of data finds what was there before. */
  function dropAtRead(disk: Disk, says = flushes): void {
    disk.fault = (request) => {
      if (isData(request)) {
        disk.cached = Buffer.from(disk.stable)
        disk.failOnce(says)
      }
      return null
    }
  }

  it('is not what a leg was filled from', async () => {
    const { a, b, c } = disks('a', 'b', 'c')
    const legs = { a: a!, b: b!, c: c! }
    const head = await new Head(legs, new MemoryStore(), {}, [], ['a']).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    legs.c.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    await write(head.device, 0, pattern(2))
    dropAtRead(legs.b)
    legs.c.comeBack()
    await head.until('b left', () => head.state('b') !== 'in-sync')
    await head.inSync('a', 'b', 'c')
    expect(Object.values(legs).map(({ cached }) => cached[0])).to.deep.equal([2, 2, 2])
    await head.device.close()
  })

  it('is not what a leg was filled from where forced writes do not say so', async () => {
    const { a, b, c } = disks('a', 'b', 'c')
    const legs = { a: a!, b: b!, c: c! }
    const head = await new Head(legs, new MemoryStore(), {}, [], ['a']).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    legs.c.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    await write(head.device, 0, pattern(2))
    dropAtRead(legs.b, isFlush)
    legs.c.comeBack()
    await head.inSync('a', 'c')
    await flush(head.device)
    await head.inSync('a', 'b', 'c')
    expect(Object.values(legs).map(({ cached }) => cached[0])).to.deep.equal([2, 2, 2])
    await head.device.close()
  })

  it('is not what a leg was filled from that was away when the disk said so', async () => {
    const { a, b, c } = disks('a', 'b', 'c')
    const legs = { a: a!, b: b!, c: c! }
    const head = await new Head(legs, new MemoryStore(), {}, [], ['a']).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    legs.c.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    await write(head.device, 0, pattern(2))
    dropAtRead(legs.b)
    legs.c.log.length = 0
    let copied = false
    legs.c.hold = ({ operation }) => {
      const written = legs.c.log.some(
        (one) => one.offset === 0 && one.operation === Operation.write,
      )
      copied ||= written && operation === Operation.flush
      return copied
    }
    legs.c.comeBack()
    await head.until('it was copied to c, and not flushed', () => copied)
    legs.c.hold = () => false
    legs.c.goAway()
    await head.until('b left', () => head.state('b') !== 'in-sync')
    legs.c.comeBack()
    await head.inSync('a', 'b', 'c')
    expect(Object.values(legs).map(({ cached }) => cached[0])).to.deep.equal([2, 2, 2])
    await head.device.close()
  })

  /** Both have it, b for as long as it keeps it. */
  async function twoLegs(readLast: string) {
    const { a, b } = disks('a', 'b')
    const legs = { a: a!, b: b! }
    const head = await new Head(legs, new MemoryStore(), {}, [], [readLast]).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    await write(head.device, 0, pattern(2))
    dropAtRead(legs.b)
    return { head, legs }
  }

  it('is not what a verify repairs from', async () => {
    const { head, legs } = await twoLegs('a')
    const { bytesRepaired } = await head.driver.verify({ repairFrom: 'b' })
    expect(bytesRepaired).to.equal(0)
    await head.inSync('a', 'b')
    expect([legs.a.cached[0], legs.b.cached[0]]).to.deep.equal([2, 2])
    await head.device.close()
  })

  const unreadable = (request: Request): StorageError | null =>
    isData(request) ? new StorageError('IO', 'bad sector') : null

  it('is not what is written again to a leg that could not read it', async () => {
    const { head, legs } = await twoLegs('b')
    legs.a.fault = unreadable
    // Whoever reads is told what the disk says: nobody knows better.
    await read(head.device, 0, 4096)
    await head.until('b left', () => head.state('b') !== 'in-sync')
    expect(legs.a.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('is not what a verify writes to a leg that could not read it', async () => {
    const { head, legs } = await twoLegs('a')
    legs.a.fault = unreadable
    const verifying = head.driver.verify()
    await head.until('b left', () => head.state('b') !== 'in-sync')
    await verifying
    legs.a.fault = () => null
    await head.inSync('a', 'b')
    expect([legs.a.cached[0], legs.b.cached[0]]).to.deep.equal([2, 2])
    await head.device.close()
  })
})

describe('a start by an operator’s word from a leg that lacks what was acknowledged', () => {
  for (const leg of [undefined, 'b'])
    it(`is told to clients like any loss (${leg ?? 'no leg'} named)`, async () => {
      const legs = disks('a', 'b')
      const { a, b } = legs
      const head = await new Head(legs, new MemoryStore(), { suspendMs: 100 }).open()
      await write(head.device, 0, pattern(1))
      await flush(head.device)
      b!.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      await write(head.device, 0, pattern(2))
      a!.goAway()
      await head.until('it waits', () => head.driver.describe()['volume'] === 'waiting')
      b!.comeBack()
      await head.driver.startVolume(leg === undefined ? { force: true } : { force: true, leg })
      expect((await read(head.device, 0, 4096))[0]).to.equal(1)
      expect(head.device.losses).to.equal(1)
      await head.device.close()
    })
})
