import { expect } from 'chai'
import type { Random } from '../../src/base/random.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { BlockSet, Blocks, blockBytesOf } from '../../src/mirror/data/blocks.ts'
import { DirtyMap } from '../../src/mirror/data/dirty-map.ts'
import { flush, submit, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, MemoryStore, pattern } from './head.ts'
import { SeededRandom } from '../support/seeded.ts'

const dataEnd = 3 * MiB

function bytesWritten(disk: Disk): number {
  return disk.bytesWritten(dataEnd)
}

function same(one: Disk, other: Disk): boolean {
  return one.cached.subarray(0, dataEnd).equals(other.cached.subarray(0, dataEnd))
}

describe('what a leg missed', () => {
  it('is copied by blocks, however scattered', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    await write(head.device, 0, pattern(1, 40 * extentSize))
    await flush(head.device)
    b.goAway()
    for (let at = 0; at < 40; at++)
      await write(head.device, at * extentSize + (at % 16) * 4096, pattern(2))
    await write(head.device, 3 * extentSize - 512, pattern(3, 1024))
    b.log.length = 0
    b.comeBack()
    await head.inSync('a', 'b')
    expect(bytesWritten(b)).to.equal(42 * 4096)
    expect(head.lastResync('b')).to.include({ bytes: 42 * 4096, bytesMoved: 42 * 4096 })
    expect(same(a, b)).to.equal(true)
    await head.device.close()
  })

  it('is known so after it left the log, of what was not flushed as well', async () => {
    for (const reboots of [false, true]) {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore(), { intentIdleMs: 200 }).open()
      const { a, b } = legs as { a: Disk; b: Disk }
      await write(head.device, 0, pattern(1, 8 * extentSize))
      await flush(head.device)
      // Where these writes take long, the log may be cleaned before the last one.
      b.hold = ({ operation }) => operation === Operation.flush
      for (let at = 0; at < 8; at++) await write(head.device, at * extentSize, pattern(2))
      if (reboots) b.powerCut()
      else b.goAway()
      b.hold = () => false
      await write(head.device, 20 * extentSize, pattern(3))
      await head.until('the log is empty', () => head.driver.describe()['hotExtents'] === 0)
      b.log.length = 0
      b.comeBack()
      await head.inSync('a', 'b')
      expect(bytesWritten(b)).to.equal(9 * 4096)
      expect(same(a, b)).to.equal(true)
      await head.device.close()
    }
  })

  it('is each block of an extent that was not flushed, though they came one by one', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    await write(head.device, 0, pattern(1, extentSize))
    await flush(head.device)
    for (const block of [1, 5, 7]) await write(head.device, block * 4096, pattern(2))
    b.log.length = 0
    b.powerCut()
    b.comeBack()
    await head.inSync('a', 'b')
    expect(bytesWritten(b)).to.equal(3 * 4096)
    expect(same(a, b)).to.equal(true)
    await head.device.close()
  })

  it('is everything of an extent whose copy was lost, and what was missed since', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncCheckpointBytes: 64 * MiB, resyncCheckpointMs: 60_000 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    b.goAway()
    await write(head.device, 0, pattern(1))
    await write(head.device, 9 * extentSize, pattern(1))
    let flushing = false
    b.hold = ({ operation, offset }) => {
      flushing ||= operation === Operation.write && offset === 9 * extentSize
      return operation === Operation.write && offset === 9 * extentSize
    }
    b.comeBack()
    await head.until('the first is copied', () => flushing && b.cached[0] === 1)
    b.goAway()
    await write(head.device, 8 * KiB, pattern(2))
    b.powerCut()
    b.hold = () => false
    b.comeBack()
    await head.inSync('a', 'b')
    expect([b.cached[0], b.cached[8 * KiB]]).to.deep.equal([1, 2])
    expect(same(a, b)).to.equal(true)
    await head.device.close()
  })

  it('is what it had not flushed when it left, lost before or after it is back', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    await write(head.device, 0, pattern(1))
    b.goAway()
    await write(head.device, 8 * KiB, pattern(2))
    // What is flushed of the others meanwhile says nothing of this one.
    await flush(head.device)
    await write(head.device, 16 * KiB, pattern(3))
    b.hold = ({ operation, offset }) => operation === Operation.write && offset === 8 * KiB
    b.comeBack()
    await head.until('it is being filled', () => head.state('b') === 'syncing')
    b.powerCut()
    b.hold = () => false
    b.comeBack()
    await head.inSync('a', 'b')
    expect([0, 8 * KiB, 16 * KiB].map((at) => b.cached[at])).to.deep.equal([1, 2, 3])
    expect(same(a, b)).to.equal(true)
    await head.device.close()
  })

  it('is whole extents without memory for blocks, and after a crash of the head', async () => {
    for (const crash of [false, true]) {
      const legs = disks('a', 'b')
      const store = new MemoryStore()
      const settings = crash ? {} : { missedBytesMax: 0 }
      let head = await new Head(legs, store, settings).open()
      const { a, b } = legs as { a: Disk; b: Disk }
      await write(head.device, 0, pattern(1, 8 * extentSize))
      await flush(head.device)
      b.goAway()
      for (let at = 0; at < 4; at++) await write(head.device, at * extentSize, pattern(2))
      if (crash) {
        head.kill()
        head = await new Head(legs, store, {}, ['b']).open()
      }
      b.comeBack()
      await head.inSync('a', 'b')
      expect(head.lastResync('b')!.bytes).to.be.at.least(4 * extentSize)
      expect(same(a, b)).to.equal(true)
      await head.device.close()
    }
  })

  it('includes trims and zeroes, and writes of any alignment', async () => {
    const random = new SeededRandom(23)
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    await write(head.device, 0, pattern(1, 40 * extentSize))
    for (let round = 0; round < 6; round++) {
      b.goAway()
      for (let count = 0; count < 20; count++) {
        const offset = 512 * Math.floor(random.fraction() * 4096)
        const length = 512 * (1 + Math.floor(random.fraction() * 300))
        if (count % 3 === 0) await submit(head.device, Operation.writeZeroes, offset, length)
        else await write(head.device, offset, pattern(2 + count, length))
      }
      if (round % 2 === 1) b.powerCut()
      b.comeBack()
      await head.inSync('a', 'b')
      expect(same(a, b), `round ${round}`).to.equal(true)
    }
    await head.device.close()
  })
})

/** A leg by blocks: what is on its disk, in its cache, and what it should have. */
class Model {
  readonly stable: number[]
  readonly cached: number[]
  readonly truth: number[]
  private readonly dirty: DirtyMap
  private unflushed: BlockSet
  private readonly geometry = { extents: 24, extentSize, bytesMax: 64 * 2 }
  private readonly blockBytes = blockBytesOf(extentSize)
  private readonly blocks = extentSize / blockBytesOf(extentSize)
  private away = true
  private version = 0
  private readonly random: Random

  constructor(random: Random, bytesMax: number) {
    this.random = random
    this.geometry.bytesMax = bytesMax
    const all = this.geometry.extents * this.blocks
    this.stable = new Array<number>(all).fill(0)
    this.cached = [...this.stable]
    this.truth = [...this.stable]
    this.dirty = new DirtyMap(this.geometry)
    this.unflushed = new BlockSet(this.geometry)
  }

  step(): void {
    const dice = this.random.fraction()
    if (dice < 0.45) this.write()
    else if (dice < 0.7) this.copy()
    else if (dice < 0.8) this.checkpoint()
    else if (dice < 0.85) this.loseCache()
    else if (dice < 0.9) this.missWhole()
    else this.away = !this.away
    this.check()
  }

  private write(): void {
    const first = Math.floor(this.random.fraction() * this.truth.length)
    const end = Math.min(this.truth.length, first + 1 + Math.floor(this.random.fraction() * 20))
    this.version++
    for (let block = first; block < end; block++) {
      this.truth[block] = this.version
      if (!this.away) this.cached[block] = this.version
    }
    if (this.away) this.dirty.miss(first * this.blockBytes, end * this.blockBytes)
    else for (let block = first; block < end; block++) this.acknowledge(block)
  }

  /** Somebody says that all of an extent may be lacking. */
  private missWhole(): void {
    this.dirty.set(Math.floor(this.random.fraction() * this.geometry.extents))
  }

  private acknowledge(block: number): void {
    const row = new Uint8Array(this.blocks / 8)
    row[(block % this.blocks) >> 3]! |= 1 << (block & 7)
    this.unflushed.add(Math.floor(block / this.blocks), row)
  }

  private copy(): void {
    if (this.away) return
    const { bits } = this.dirty
    const extent = bits.next(Math.floor(this.random.fraction() * bits.length))
    if (extent === -1) return
    const row = this.dirty.rowOf(extent)
    for (let block = 0; block < this.blocks; block++)
      if (row === null || (row[block >> 3]! & (1 << (block & 7))) !== 0)
        this.cached[extent * this.blocks + block] = this.truth[extent * this.blocks + block]!
    this.dirty.copied(extent)
  }

  private checkpoint(): void {
    if (this.away) return
    this.dirty.beginFlush()
    for (const [block, version] of this.cached.entries()) this.stable[block] = version
    this.unflushed = new BlockSet(this.geometry)
    // What is copied while the flush is under way is not covered by it.
    if (this.random.fraction() < 0.5) this.copy()
    this.dirty.takeFlushed()
  }

  private loseCache(): void {
    for (const [block, version] of this.stable.entries()) this.cached[block] = version
    this.dirty.forgetCopies()
    this.dirty.missSet(this.unflushed)
    this.unflushed = new BlockSet(this.geometry)
    this.away = true
  }

  private check(): void {
    if (this.random.fraction() < 0.2) this.dirty.takeBehind()
    for (const [block, version] of this.truth.entries()) {
      if (this.cached[block] === version) continue
      const extent = Math.floor(block / this.blocks)
      const at = block % this.blocks
      const row = this.dirty.bits.has(extent) ? this.dirty.rowOf(extent) : new Uint8Array(32)
      const known = row === null || (row[at >> 3]! & (1 << (at & 7))) !== 0
      if (!known) throw new Error(`block ${block} is lacking, and on no map`)
    }
  }
}

describe('the map of what a leg lacks', () => {
  it('has every block that it lacks, whatever is missed, copied, flushed and lost', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new SeededRandom(seed)
      const model = new Model(random, seed % 3 === 0 ? 0 : seed % 3 === 1 ? 64 * 2 : MiB)
      for (let steps = 0; steps < 300; steps++) model.step()
    }
  })

  it('takes no more memory than it may, and gives it back', () => {
    const blocks = new Blocks({ extents: 4096, extentSize: MiB, bytesMax: 3 * 64 * 32 })
    const begun = [0, 64, 128, 192].map((extent) => blocks.begin(extent))
    expect(begun).to.deep.equal([true, true, true, false])
    expect(blocks.begin(1)).to.equal(true)
    blocks.forget(0)
    expect(blocks.begin(192), 'the first still has 1').to.equal(false)
    blocks.forget(1)
    expect(blocks.begin(192)).to.equal(true)
    expect(blocks.bytesOf(192)).to.equal(0)
  })

  it('counts bytes', () => {
    const dirty = new DirtyMap({ extents: 100, extentSize: MiB, bytesMax: MiB })
    dirty.miss(0, 1)
    dirty.miss(MiB - 1, MiB + 8193)
    dirty.set(50)
    expect(dirty.bytes).to.equal(MiB + 2 * 4096 + 3 * 4096)
    dirty.set(0)
    expect(dirty.bytes).to.equal(2 * MiB + 3 * 4096)
    expect(dirty.bytesOf(1)).to.equal(3 * 4096)
  })
})
