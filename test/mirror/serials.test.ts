import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockBytes, superblockOffset } from '../../src/mirror/layout.ts'
import {
  choose,
  decodeSlot,
  encodeSuperblock,
  type Superblock,
} from '../../src/mirror/superblock.ts'
import { flush, read, write } from '../support/io.ts'
import { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

/** What a leg's slots hold, and writes one of them. */
function slotsOf(disk: Disk) {
  const read = (slot: number) => {
    const at = superblockOffset(disk.size, slot)
    return decodeSlot(disk.cached.subarray(at, at + superblockBytes))
  }
  return [read(0), read(1)] as const
}

function put(disk: Disk, slot: number, superblock: Superblock): void {
  const bytes = encodeSuperblock(superblock)!
  for (const buffer of [disk.cached, disk.stable])
    bytes.copy(buffer, superblockOffset(disk.size, slot))
}

function newestOf(disk: Disk): Superblock {
  const found = choose(...slotsOf(disk))
  if (found.kind !== 'superblock') throw new Error('it has none')
  return found.superblock
}

describe('a superblock with the largest serial there is', () => {
  for (const slot of [0, 1])
    it(`does not outlast later ones (in slot ${slot})`, async () => {
      const legs = disks('a', 'b')
      const store = new MemoryStore()
      let head = await new Head(legs, store).open()
      await write(head.device, 0, pattern(1))
      await head.device.close()
      const b = legs['b']!
      put(b, slot, { ...newestOf(b), serial: Number.MAX_SAFE_INTEGER })
      head = await new Head(legs, store).open()
      await head.inSync('a', 'b')
      b.goAway()
      await write(head.device, 0, pattern(2))
      b.comeBack()
      await head.inSync('a', 'b')
      await head.device.close()
      const { serial, record } = newestOf(b)
      expect(serial).to.be.below(100)
      expect(record.generation).to.deep.equal(newestOf(legs['a']!).record.generation)
      // The legs alone know who is in sync.
      head = await new Head(legs, new MemoryStore()).open()
      await head.inSync('a', 'b')
      expect((await read(head.device, 0, 4096))[0]).to.equal(2)
      await head.device.close()
    })

  it('counts until it is written over itself, whatever a crash leaves of that', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    let head = await new Head(legs, store).open()
    await write(head.device, 0, pattern(1))
    await head.device.close()
    const b = legs['b']!
    put(b, 1, { ...newestOf(b), serial: Number.MAX_SAFE_INTEGER })
    // The second of the two writes of b does not come.
    let first = false
    let second = false
    b.hold = ({ operation, offset }) => {
      if (operation !== Operation.write) return false
      first ||= offset === superblockOffset(b.size, 0)
      second ||= offset === superblockOffset(b.size, 1)
      return offset === superblockOffset(b.size, 1)
    }
    head = new Head(legs, store)
    void head.open()
    await head.until('the second is under way', () => second)
    expect(first).to.equal(true)
    head.kill()
    b.hold = () => false
    head = await new Head(legs, store).open()
    await head.inSync('a', 'b')
    await write(head.device, 0, pattern(2))
    expect([legs['a']!.cached[0], b.cached[0]]).to.deep.equal([2, 2])
    await head.device.close()
  })
})

describe('a superblock with almost the largest serial there is', () => {
  it('puts no leg in doubt once numbers began anew', async () => {
    const legs = disks('a')
    const store = new MemoryStore()
    let head = await new Head(legs, store).open()
    await head.device.close()
    const a = legs['a']!
    for (let back = 3; back > 0; back--) {
      put(a, 1, { ...newestOf(a), serial: Number.MAX_SAFE_INTEGER - back })
      for (let turn = 0; turn < 4; turn++) {
        head = new Head(legs, store)
        void head.open()
        await head.until('it is served, or waits', () => {
          return head.device.usable || String(head.driver.describe()['reason']).includes('wait')
        })
        const reason = String(head.driver.describe()['reason'])
        expect(reason, `${back} below it, start ${turn}`).to.not.include('put back')
        await head.device.close()
      }
    }
  })
})

describe('the superblocks of a leg', () => {
  it('are written one after the other, also while the volume grows', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    const { a, b } = legs
    const size = 8 * MiB
    const slots = [0, 1].map((slot) => superblockOffset(size, slot))
    const underWay: number[] = []
    a!.hold = ({ operation, offset }) => {
      const superblock = operation === Operation.write && slots.includes(offset)
      if (superblock) underWay.push(offset)
      return superblock
    }
    for (const disk of [a!, b!]) disk.grow(size)
    await head.until('the metadata of a are moved', () => underWay.length > 0)
    // Nothing is lost by it, and only the record changes.
    b!.restart()
    await later(100)
    expect(underWay, 'written to at once').to.have.length(1)
    a!.letGo()
    a!.hold = () => false
    await head.until('it has grown', () => head.device.facts!.size > 4 * MiB)
    await head.device.close()
    expect(newestOf(a!).record.members).to.deep.equal(newestOf(b!).record.members)
  })
})

describe('a leg whose new space holds a superblock of an earlier day', () => {
  for (const how of ['while the head was away', 'while it was away itself'])
    it(`is known by the one where it ended before, if it grew ${how}`, async () => {
      const legs = { a: new Disk(8 * MiB), b: new Disk(8 * MiB) }
      const settings = { size: 2 * MiB }
      const store = new MemoryStore()
      let head = await new Head(legs, store, settings).open()
      const { a, b } = legs
      const earlier = Buffer.from(b.cached.subarray(4 * MiB))
      // The disk is made smaller and filled anew, then it grows again, with what was there.
      b.goAway()
      await write(head.device, 0, pattern(1))
      b.shrink(4 * MiB)
      await head.until('b is blank', () => head.state('b') === 'failed')
      await head.driver.attachLeg('b', { replace: true })
      await head.inSync('a', 'b')
      if (how.endsWith('itself')) {
        b.goAway()
        await write(head.device, 0, pattern(2))
      } else await head.device.close()
      b.size = 8 * MiB
      b.cached = Buffer.concat([b.cached, earlier])
      b.stable = Buffer.concat([b.stable, earlier])
      if (how.endsWith('itself')) b.comeBack()
      else head = await new Head(legs, store, settings).open()
      await head.inSync('a', 'b')
      const kinds = head.history().flatMap(({ resync }) => resync?.kind ?? [])
      const copied = how.endsWith('itself') ? ['full', 'partial'] : ['full']
      expect([kinds, b.cached[0]]).to.deep.equal([copied, a.cached[0]])
      await head.device.close()
    })
})
