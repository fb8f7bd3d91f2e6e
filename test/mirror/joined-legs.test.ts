import { expect } from 'chai'
import { Operation, type Request } from '../../src/device/request.ts'
import { superblockBytes, superblockOffset } from '../../src/mirror/layout.ts'
import type { VolumeRecord } from '../../src/mirror/record.ts'
import { choose, decodeSlot, type Found } from '../../src/mirror/superblock.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

type Legs = Readonly<Record<'a' | 'b', Disk>>

const patient = { legRetryMs: 60_000, legRetryMsMax: 60_000 }

/** The generation by which both legs are in sync; 0 where one is not. */
function bothIn(found: Found): number {
  if (found.kind !== 'superblock') return 0
  const { members, generation } = found.superblock.record
  return members.every(({ state }) => state === 'in-sync') ? generation.counter : 0
}

function slotsOf({ size }: Disk): readonly number[] {
  return [superblockOffset(size, 0), superblockOffset(size, 1)]
}

/** What the disk shows. */
function shownBy(disk: Disk): Found {
  const slots = slotsOf(disk).map((at) => disk.cached.subarray(at, at + superblockBytes))
  return choose(decodeSlot(slots[0]!), decodeSlot(slots[1]!))
}

/** What is about to be written to it. */
function comesTo(disk: Disk, { operation, offset, segments }: Request): Found {
  const isSuperblock = operation === Operation.write && slotsOf(disk).includes(offset)
  return isSuperblock ? decodeSlot(Buffer.concat(segments)) : { kind: 'blank' }
}

/** Takes b out of the volume, and says how it comes back. */
const ways: Readonly<Record<string, (head: Head, b: Disk) => Promise<() => unknown>>> = {
  'was away': async (head, b) => {
    b.goAway()
    await head.until('b is away', () => head.state('b') === 'missing')
    return () => {
      b.comeBack()
    }
  },
  'is attached': async ({ driver }) => {
    await driver.detachLeg('b')
    return () => driver.attachLeg('b').catch(() => undefined)
  },
  'is trusted': async ({ driver }) => {
    await driver.detachLeg('b')
    return () => driver.trustLeg('b').catch(() => undefined)
  },
}

interface Joined {
  readonly legs: Legs
  readonly store: MemoryStore
  readonly first: Head
  /** What is written from now on arrives. */
  readonly letGo: () => void
}

/**
 * A head runs with a and wrote ones; b joins. `unheard` has not heard of that: its superblock is on
 * the way.
 */
async function joined(way: keyof typeof ways, unheard: 'a' | 'b' | 'none'): Promise<Joined> {
  const legs = disks('a', 'b') as unknown as Legs
  const store = new MemoryStore()
  const first = await new Head(legs, store).open()
  await first.inSync('a', 'b')
  await write(first.device, 0, pattern(1))
  const back = await ways[way]!(first, legs.b)
  await write(first.device, 4096, pattern(1))
  await flush(first.device)
  const { counter } = recordIn((await store.load('m'))!).generation
  const held = unheard === 'none' ? [] : [legs[unheard]]
  let late = 0
  for (const disk of held)
    disk.hold = (request) => {
      const holds = bothIn(comesTo(disk, request)) > counter
      if (holds) late++
      return holds
    }
  // Nor does the head's own store hear that all have it.
  const save = store.save.bind(store)
  store.save = (key, text) =>
    key === 'm' && recordIn(text).base.counter > counter
      ? new Promise<void>(() => undefined)
      : save(key, text)
  void back()
  // The leg that joins shows it last.
  const told = unheard === 'a' ? [] : [legs.a, legs.b].filter((disk) => !held.includes(disk))
  await first.until('b joins', () => {
    return late === held.length && told.every((disk) => bothIn(shownBy(disk)) > counter)
  })
  return {
    legs,
    store,
    first,
    letGo: () => {
      for (const disk of [legs.a, legs.b]) disk.hold = () => false
      store.save = save
    },
  }
}

function recordIn(text: string): VolumeRecord {
  return JSON.parse(text) as VolumeRecord
}

function wordOf({ driver }: Head): unknown {
  return driver.describe()['volume']
}

/** What a head reads that starts from the legs that are there; 0 when it waits. */
async function foundBy(legs: Legs, store: MemoryStore, away: string[]): Promise<number> {
  const head = await new Head(legs, store, {}, away).open()
  await later(80)
  const found = head.device.usable ? (await read(head.device, 0, 4096))[0]! : 0
  if (found === 0) expect(wordOf(head)).to.equal('waiting')
  head.kill()
  return found
}

/** Another head, on another machine, that reaches one leg alone, writes twos. */
async function takenOver(legs: Legs, away: string): Promise<Head> {
  const second = await new Head(legs, new MemoryStore(), patient, [away]).open()
  await second.until('it serves', () => second.device.usable)
  await write(second.device, 0, pattern(2))
  await flush(second.device)
  return second
}

describe('a leg that has just joined', () => {
  for (const way of Object.keys(ways))
    it(`is not enough for a start before the others show it: one that ${way}`, async () => {
      const { legs, store, first, letGo } = await joined(way, 'a')
      await later(80)
      expect(bothIn(shownBy(legs.b))).to.equal(0)
      first.kill()
      letGo()
      const second = await takenOver(legs, 'b')
      expect(await foundBy(legs, store, ['a'])).to.equal(0)
      second.kill()
      expect(await foundBy(legs, store, [])).to.equal(2)
    })

  it('is not enough for a head that was cut off from the others before they show it', async () => {
    const { legs, first, letGo } = await joined('was away', 'a')
    legs.a.goAway()
    letGo()
    await first.until('its run ends', () => !first.device.usable || wordOf(first) !== 'running')
    const second = await takenOver(legs, 'b')
    await later(80)
    expect(wordOf(first)).to.equal('suspended')
    expect(second.device.usable).to.equal(true)
  })

  for (const unheard of ['a', 'b', 'none'] as const)
    it(`keeps nobody waiting where all are there: ${unheard} has not heard of it`, async () => {
      const { legs, store, first, letGo } = await joined('was away', unheard)
      first.kill()
      letGo()
      const next = await new Head(legs, store).open()
      await next.inSync('a', 'b')
      expect((await read(next.device, 4096, 4096)).equals(pattern(1))).to.equal(true)
      expect(next.lastResync('b')?.kind).to.not.equal('full')
    })

  it('is waited for where another head may have gone on with it alone', async () => {
    const { legs, store, first, letGo } = await joined('was away', 'none')
    first.kill()
    letGo()
    // It starts with both, because both say that both are in sync, and takes b for the truth.
    const second = await new Head(legs, new MemoryStore(), {}, [], ['a']).open()
    legs.a.goAway()
    await second.until('it serves', () => second.device.usable)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    second.kill()
    expect(await foundBy(legs, store, ['b'])).to.equal(0)
    expect(await foundBy(legs, store, [])).to.equal(2)
  })
})
