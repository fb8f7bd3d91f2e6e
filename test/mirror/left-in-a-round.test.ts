import { expect } from 'chai'
import { Operation, type Request } from '../../src/device/request.ts'
import { superblockBytes, superblockOffset } from '../../src/mirror/layout.ts'
import { historyGenerationsMax, type VolumeRecord } from '../../src/mirror/record.ts'
import { choose, decodeSlot } from '../../src/mirror/superblock.ts'
import { flush, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, later, MemoryStore, pattern } from './head.ts'

function slotsOf({ size }: Disk): readonly number[] {
  return [superblockOffset(size, 0), superblockOffset(size, 1)]
}

/** The generation that the disk shows. */
function shownBy(disk: Disk): number {
  const [first, second] = slotsOf(disk).map((at) =>
    decodeSlot(disk.cached.subarray(at, at + superblockBytes)),
  )
  const found = choose(first!, second!)
  return found.kind === 'superblock' ? found.superblock.record.generation.counter : 0
}

function isSuperblockOf(disk: Disk) {
  return ({ operation, offset }: Request): boolean =>
    operation === Operation.write && slotsOf(disk).includes(offset)
}

function generationOf(head: Head): number {
  return Number(head.driver.describe()['generation'])
}

/** Saves records of the head only as far as it is let. */
class Gate extends MemoryStore {
  /** Whether it is to be kept. */
  keeps: (record: VolumeRecord) => boolean = () => false
  kept: (() => void)[] = []

  override async save(key: string, text: string): Promise<void> {
    if (key === 'm' && this.keeps(JSON.parse(text) as VolumeRecord))
      await new Promise<void>((resolve) => this.kept.push(resolve))
    await super.save(key, text)
  }

  open(): void {
    this.keeps = () => false
    for (const go of this.kept.splice(0)) go()
  }
}

describe('a leg that joins while the record of a leg that left is on its way', () => {
  it('does not count for minInSync before it is durable that it is in sync', async () => {
    const legs = disks('a', 'b', 'c')
    const [a, b, c] = [legs['a']!, legs['b']!, legs['c']!]
    const store = new Gate()
    const head = await new Head(legs, store, { minInSync: 2, intentIdleMs: 60_000 }).open()
    await head.inSync('a', 'b', 'c')
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    await write(head.device, 0, pattern(2))
    await flush(head.device)
    // b is being filled, and what is copied to it is on its way.
    let copies = 0
    b.hold = ({ operation, offset }) => {
      const holds = operation === Operation.write && offset < extentSize
      if (holds) copies++
      return holds
    }
    b.comeBack()
    await head.until('b is being filled', () => copies > 0)
    // c goes away with a write that the others have, and a has not heard yet that it left.
    c.hold = ({ operation, offset }) => operation === Operation.write && offset === extentSize
    let acknowledged = false
    const writing = write(head.device, extentSize, pattern(3)).then(() => (acknowledged = true))
    await head.until('a and b have it', () =>
      [a, b].every(({ cached }) => cached[extentSize] === 3),
    )
    let held = 0
    const isSuperblock = isSuperblockOf(a)
    a.hold = (request) => {
      const holds = isSuperblock(request)
      if (holds) held++
      return holds
    }
    c.goAway()
    await head.until('c left, and a is about to hear of it', () => held > 0)
    expect(head.state('c')).to.equal('missing')
    b.letGo()
    b.hold = () => false
    await head.until('b is as good as in sync', () => {
      const { state, resync } = head.leg('b')
      return state === 'syncing' && resync === undefined
    })
    // That it is in sync is not saved.
    const counter = generationOf(head)
    store.keeps = ({ generation }) => generation.counter > counter
    a.letGo()
    a.hold = () => false
    await head.until('it is about to be saved', () => store.kept.length > 0)
    await later(50)
    const seen = { acknowledged, b: head.state('b') }
    head.kill()
    void writing.catch(() => undefined)
    expect(seen).to.deep.equal({ acknowledged: false, b: 'syncing' })
  })
})

describe('a leg that leaves with a generation that it shows and that is no base yet', () => {
  it('comes back by itself after more generations than a volume remembers', async () => {
    const legs = disks('a', 'b', 'c')
    const [a, b, c] = [legs['a']!, legs['b']!, legs['c']!]
    const head = await new Head(legs, new MemoryStore(), { legRetryMs: 1 }).open()
    await head.inSync('a', 'b', 'c')
    const before = generationOf(head)
    a.hold = isSuperblockOf(a)
    b.goAway()
    await head.until('c heard of that', () => shownBy(c) > before)
    c.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    a.letGo()
    a.hold = () => false
    b.comeBack()
    await head.inSync('a', 'b')
    const since = generationOf(head)
    while (generationOf(head) - since <= historyGenerationsMax) {
      b.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      b.comeBack()
      await head.inSync('a', 'b')
    }
    c.comeBack()
    await head.inSync('c')
  })

  it('does so where it was about to be in sync', async () => {
    const legs = disks('a', 'b', 'c')
    const [b, c] = [legs['b']!, legs['c']!]
    const store = new Gate()
    const head = await new Head(legs, store, { legRetryMs: 1 }).open()
    await head.inSync('a', 'b', 'c')
    c.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    const before = generationOf(head)
    store.keeps = ({ base }) => base.counter > before
    c.comeBack()
    await head.until('c shows it', () => shownBy(c) > before && store.kept.length > 0)
    c.goAway()
    await head.until('c left again', () => head.state('c') === 'missing')
    store.open()
    const since = generationOf(head)
    while (generationOf(head) - since <= historyGenerationsMax + 1) {
      b.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      b.comeBack()
      await head.inSync('a', 'b')
    }
    c.comeBack()
    await head.inSync('c')
  })
})

/** b left, and c while that was saved; the head died when c's leaving was about to be saved. */
async function leftUnheard() {
  const legs = disks('a', 'b', 'c')
  const [b, c] = [legs['b']!, legs['c']!]
  const store = new Gate()
  const first = await new Head(legs, store).open()
  await first.inSync('a', 'b', 'c')
  await write(first.device, 0, pattern(1))
  await flush(first.device)
  const before = generationOf(first)
  store.keeps = ({ generation }) => generation.counter > before
  b.goAway()
  await first.until('it is about to be saved that b left', () => store.kept.length > 0)
  c.goAway()
  await first.until('c left', () => first.state('c') === 'missing')
  // All of that arrives, the base included, and the next generation does not.
  const next = before + 1
  store.keeps = ({ generation }) => generation.counter > next
  for (const go of store.kept.splice(0)) go()
  await first.until('the next is about to be saved', () => store.kept.length > 0)
  first.kill()
  store.keeps = () => false
  return { legs, store }
}

describe('a leg that leaves while a record is saved in which it is in sync', () => {
  it('is not taken for put back where the head dies before the next one is', async () => {
    const { legs, store } = await leftUnheard()
    const second = await new Head(legs, store).open()
    await second.inSync('a', 'b', 'c')
    expect(second.lastResync('c')?.kind, second.lastResync('c')?.cause).to.not.equal('full')
  })

  it('is enough for a start then: nothing was acknowledged since', async () => {
    const { legs, store } = await leftUnheard()
    const second = await new Head(legs, store, {}, ['a', 'b']).open()
    await second.until('it serves', () => second.device.usable)
  })
})
