import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import type { VolumeRecord } from '../../src/mirror/record.ts'
import { encodeSuperblock, decodeSlot } from '../../src/mirror/superblock.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import { Disk } from './disk.ts'
import { disks, Head, MemoryStore, outcome, pattern } from './head.ts'

/** What a file is that was copied, and put into the place of the original later. */
function restored(from: Buffer, { bootId }: Disk): Disk {
  const disk = new Disk(from.length)
  from.copy(disk.cached)
  from.copy(disk.stable)
  disk.bootId = bootId
  return disk
}

/** A volume whose `b` was copied when it held ones, and which holds twos now. */
async function copied(store: MemoryStore, ...names: string[]) {
  const legs = disks(...names)
  const head = await new Head(legs, store, { intentIdleMs: 2 }).open()
  const clean = () =>
    head.until('the log is clean', () => head.driver.describe()['hotExtents'] === 0)
  await write(head.device, 0, pattern(1))
  await clean()
  await flush(head.device)
  const copy = Buffer.from(legs['b']!.cached)
  await write(head.device, 0, pattern(2))
  await clean()
  await flush(head.device)
  return { legs, head, copy }
}

describe('a leg restored from a copy of itself', () => {
  it('is filled, though its superblock is as it should be', async () => {
    const { legs, head, copy } = await copied(new MemoryStore(), 'a', 'b')
    const b = legs['b']!
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    const { identity } = restored(copy, legs['b']!)
    copy.copy(b.cached)
    copy.copy(b.stable)
    b.identity = identity
    b.comeBack()
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'full' })
    expect(b.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('is filled as well when the head was away meanwhile', async () => {
    for (const remembers of [true, false]) {
      const store = new MemoryStore()
      const { legs, head, copy } = await copied(store, 'a', 'b')
      await head.device.close()
      const again = { b: restored(copy, legs['b']!), a: legs['a']! }
      const second = await new Head(again, remembers ? store : new MemoryStore()).open()
      if (!remembers) {
        // Nobody says that the original of it is not newer.
        expect(second.device.usable).to.equal(false)
        const reason = String(second.driver.describe()['reason'])
        expect(reason).to.include('b (another device is in its place)')
        await second.driver.startVolume({ force: true })
      }
      for (let turn = 0; turn < 4; turn++)
        expect((await read(second.device, 0, 4096))[0]).to.equal(2)
      await second.inSync('a', 'b')
      expect(again.b.cached[0]).to.equal(2)
      await second.device.close()
    }
  })

  it('is not started from while the original of another is away', async () => {
    const store = new MemoryStore()
    const { legs, head, copy } = await copied(store, 'a', 'b')
    await head.device.close()
    const again = { a: legs['a']!, b: restored(copy, legs['b']!) }
    const second = await new Head(again, store, {}, ['a']).open()
    expect(second.device.usable).to.equal(false)
    expect(second.driver.describe()['reason']).to.include('a (')
    again.a.comeBack()
    await second.inSync('a', 'b')
    expect(again.b.cached[0]).to.equal(2)
    await second.device.close()
  })

  it('is taken for the leg when all of them were moved', async () => {
    const store = new MemoryStore()
    const { legs, head } = await copied(store, 'a', 'b')
    await head.device.close()
    const again = {
      a: restored(legs['a']!.stable, legs['a']!),
      b: restored(legs['b']!.stable, legs['b']!),
    }
    const second = await new Head(again, store).open()
    await second.inSync('a', 'b')
    expect(second.lastResync('b')).to.equal(undefined)
    await second.device.close()
  })
})

describe('a leg in the place of another', () => {
  it('that somebody else has claimed is refused, and the volume goes on', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const b = legs['b']!
    b.goAway()
    await write(head.device, 0, pattern(1))
    b.cached.fill(0)
    b.stable.fill(0)
    b.identity = new Disk(4 * MiB).identity
    b.epoch = Number.MAX_SAFE_INTEGER
    b.comeBack()
    await head.until('b is refused', () => head.state('b') === 'failed')
    expect(head.leg('b').reason).to.include('claimed')
    expect(await outcome(write(head.device, 0, pattern(2)))).to.equal('done')
    await head.device.close()
  })

  it('that somebody else has claimed does not keep the volume from starting', async () => {
    const store = new MemoryStore()
    const legs = disks('a', 'b')
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await first.device.close()
    const blank = new Disk(4 * MiB)
    blank.epoch = Number.MAX_SAFE_INTEGER
    const head = await new Head({ a: legs['a']!, b: blank }, store).open()
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.device.close()
  })
})

describe('a new volume', () => {
  it('on legs that an older one had claimed is created by the operator', async () => {
    const legs = disks('a', 'b')
    for (const disk of Object.values(legs)) disk.epoch = 2 ** 50
    const head = await new Head(legs, new MemoryStore()).open()
    expect(head.device.state.word).to.equal('failed')
    for (let turn = 0; turn < 9 && !head.device.usable; turn++)
      await head.driver.startVolume({ force: true }).catch(() => undefined)
    await head.inSync('a', 'b')
    await head.device.close()
  })
})

/** Somebody writes superblocks on the disk that are like those it has, but for these changes. */
function forge(disk: Disk, change: (record: VolumeRecord) => Partial<VolumeRecord>): void {
  for (const slot of [0, 1]) {
    const at = superblockOffset(disk.size, slot)
    const found = decodeSlot(disk.cached.subarray(at, at + 65_536))
    if (found.kind !== 'superblock') throw new Error('no superblock')
    const { record, self } = found.superblock
    const hostile = { ...record, ...change(record) }
    encodeSuperblock({ serial: 90 + slot, self, record: hostile })!.copy(disk.cached, at)
  }
  disk.cached.copy(disk.stable)
}

describe('a leg whose superblock is hostile', () => {
  for (const [what, change, reason] of [
    ['it speaks of more than the leg can hold', { dataSize: 2 ** 40 }, 'room'],
    [
      'its generation is more than can be claimed',
      { generation: { counter: 2 ** 50, id: 'f'.repeat(16) } },
      'no sense',
    ],
    ['it wants metadata to be zeroes', { zeroing: { from: 0, to: 2 ** 32 } }, 'no sense'],
  ] as const)
    it(`is refused, because ${what}`, async () => {
      const store = new MemoryStore()
      const legs = disks('a', 'b')
      const first = await new Head(legs, store).open()
      await first.device.close()
      const generation = { counter: 900, id: 'f'.repeat(16) }
      forge(legs['b']!, () => ({ generation, ...change }))
      const second = await new Head(legs, store).open()
      expect((await read(second.device, 0, 4096)).length).to.equal(4096)
      expect(second.leg('b').reason).to.include(reason)
      await second.device.close()
      const third = await new Head(legs, new MemoryStore()).open()
      expect(third.leg('b').reason).to.include(reason)
      await third.device.close()
    })
})

describe('a superblock with the last number that can be read', () => {
  const last = { counter: 2 ** 32 + 2 ** 31, id: 'f'.repeat(16) }
  const ahead = ({ generation, history }: VolumeRecord) => ({
    generation: { counter: 900, id: last.id },
    history: [generation, ...history],
  })
  const entry = { number: 5, at: Date.now(), kind: 'start', leg: '', generation: 1 } as const
  const text = 'started no absent leg could be newer'
  const max = Number.MAX_SAFE_INTEGER
  for (const [what, change] of [
    ['a generation of another volume', () => ({ volume: 'e'.repeat(32), generation: last })],
    ['a generation of a split', () => ({ generation: last, history: [] })],
    ['a generation', (record) => ({ ...ahead(record), generation: last })],
    ['an entry', (record) => ({ ...ahead(record), entries: [{ ...entry, number: max, text }] })],
    ['a count', (record) => ({ ...ahead(record), entries: [{ ...entry, times: max, text }] })],
  ] as readonly (readonly [string, (record: VolumeRecord) => Partial<VolumeRecord>])[])
    it(`does not make the volume illegible (${what})`, async () => {
      const store = new MemoryStore()
      const legs = disks('a', 'b')
      const first = await new Head(legs, store).open()
      await first.device.close()
      forge(legs['b']!, change)
      const second = await new Head(legs, store).open()
      await write(second.device, 0, pattern(2))
      await second.device.close()
      const third = await new Head(legs, store).open()
      expect((await read(third.device, 0, 4096))[0]).to.equal(2)
      expect(third.leg('a').state).to.equal('in-sync')
      await third.device.close()
    })
})

describe('a leg that was removed', () => {
  it('is not claimed again when it was about to come back', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    let reads = 0
    legs['c']!.hold = ({ operation }) => operation === Operation.flush
    const detaching = head.driver.detachLeg('c')
    const removing = head.driver.removeLeg('b')
    legs['b']!.comeBack()
    legs['b']!.hold = ({ operation }) => {
      if (operation === Operation.read) reads++
      return false
    }
    const { claims } = legs['b']!
    claims.length = 0
    legs['c']!.letGo()
    await detaching
    await removing
    await head.until('the control is free', () => head.state('c') === 'detached')
    await head.driver.attachLeg('c')
    await head.inSync('a', 'c')
    expect([reads, claims]).to.deep.equal([0, [0]])
    await head.device.close()
  })
})
