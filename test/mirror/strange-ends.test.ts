import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockBytes, superblockOffset } from '../../src/mirror/layout.ts'
import { decodeSlot, encodeSuperblock, type Superblock } from '../../src/mirror/superblock.ts'
import { read, write, flush } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'
import { copyOf, logEmpty, marked, put, quickLog, reads } from './putting-back.ts'

const once = 8 * MiB

/** The newest superblock of a disk whose metadata end there. */
function newest(disk: Disk, end: number): { superblock: Superblock; at: number } {
  const found = [0, 1].map((slot) => {
    const at = superblockOffset(end, slot)
    const one = decodeSlot(disk.stable.subarray(at, at + superblockBytes))
    if (one.kind !== 'superblock') throw new Error(one.kind)
    return { superblock: one.superblock, at }
  })
  return found.toSorted((one, other) => other.superblock.serial - one.superblock.serial)[0]!
}

/** Its target has restarted as well, and remembers no head. */
function grow(disk: Disk): void {
  disk.epoch = 0
  disk.last = 0
  disk.grow(once)
}

function inscribe(disk: Disk, at: number, superblock: Superblock): void {
  for (const bytes of [disk.cached, disk.stable]) encodeSuperblock(superblock)!.copy(bytes, at)
}

describe('a leg that says where else its metadata may be', () => {
  it('is looked at in a few places only', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await put(first, 1)
    await first.device.close()
    const a = legs['a']!
    const { superblock, at } = newest(a, a.size)
    const saying = (size: number): Superblock => {
      const { self, record, serial } = superblock
      const members = record.members.map((one) => (one.id === self ? { ...one, size } : one))
      return { self, serial, record: { ...record, dataSize: 4096, slots: 2, members } }
    }
    const step = 16 * KiB
    let end = a.size - 8 * superblockBytes
    inscribe(a, at, saying(end))
    for (; end > 2 * superblockBytes; end -= step)
      inscribe(a, superblockOffset(end, 1), saying(end - step))
    a.log.length = 0
    const next = await new Head(legs, store).open()
    await later(300)
    const reads = a.log.filter(({ operation }) => operation === Operation.read).length
    expect(reads).to.be.below(120)
    await next.device.close()
  })

  it('is looked at though what it says is no place', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await put(first, 1)
    await first.device.close()
    const a = legs['a']!
    const { superblock, at } = newest(a, a.size)
    for (const member of superblock.record.members) member.size = 1_234_567
    inscribe(a, at, superblock)
    const next = await new Head(legs, store).open()
    await next.inSync('a', 'b')
    await next.device.close()
  })
})

describe('a leg that grew, and whose superblocks nobody can read', () => {
  for (const known of [true, false])
    it(`is not blank, ${known ? '' : 'not even '}to who remembers where they were`, async () => {
      const legs = disks('a', 'b')
      const first = await new Head(legs, new MemoryStore()).open()
      await put(first, 1)
      const { size } = legs['a']!
      if (known) {
        legs['b']!.goAway()
        await write(first.device, 0, pattern(2))
        await flush(first.device)
      }
      first.kill()
      const spoilt = known ? [legs['a']!] : Object.values(legs)
      for (const disk of spoilt) {
        for (const slot of [0, 1])
          for (const bytes of [disk.cached, disk.stable])
            bytes[superblockOffset(size, slot) + 40]! ^= 1
        grow(disk)
      }
      const next = await new Head(legs, new MemoryStore(), { source: 'b' }).open()
      await later(50)
      expect(next.device.usable).to.equal(false)
      expect(next.driver.describe()['reason']).to.include('both superblocks are bad')
      await next.device.close()
    })

  it('is found by the one that is whole where the other was being written', async () => {
    const legs = disks('a')
    const first = await new Head(legs, new MemoryStore()).open()
    const { size: old, identity } = first.device.facts!
    await put(first, 1)
    first.kill()
    const a = legs['a']!
    for (const bytes of [a.cached, a.stable]) bytes[superblockOffset(a.size, 1) + 40]! ^= 1
    grow(a)
    const next = await new Head(legs, new MemoryStore(), { source: 'a' }).open()
    await next.until('it has grown', () => next.device.facts?.size === old + once - 4 * MiB)
    expect(next.device.facts!.identity).to.equal(identity)
    expect((await read(next.device, 0, 4096))[0]).to.equal(1)
    await next.device.close()
  })
})

describe('legs that all grew while nobody looked', () => {
  it('are not believed where one of them was put back', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store, quickLog).open()
    await put(first, 1)
    await logEmpty(first)
    await first.device.close()
    const second = await new Head(legs, store, quickLog).open()
    await second.inSync('a', 'b')
    const back = copyOf(legs['b']!)
    for (let times = 0; times < 3; times++) {
      const at = legs['a']!.log.length
      await put(second, 2)
      await logEmpty(second)
      await marked(second, legs['a']!, at)
    }
    second.kill()
    back()
    for (const disk of Object.values(legs)) grow(disk)
    const next = await new Head(legs, new MemoryStore(), { source: 'a' }).open()
    expect(next.driver.describe()['reason']).to.include('b was put back to an older state')
    await next.driver.startVolume({ force: true })
    await next.inSync('a', 'b')
    expect(next.lastResync('b')).to.include({ kind: 'full' })
    await reads(next, 2)
    await next.device.close()
  })
})
