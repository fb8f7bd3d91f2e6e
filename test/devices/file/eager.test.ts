import { expect } from 'chai'
import { KiB } from '../../../src/base/size.ts'
import { Eager, eagerBytesMax } from '../../../src/devices/file/eager.ts'

/** A medium on simulated time: from the cache a read takes 2 us, from the disk `diskMs`. */
class Reads {
  now = 0
  blocks = 0
  stalledMs = 0
  eagerReads = 0
  readonly eager = new Eager(() => this.blocks)

  read(cached: boolean, diskMs: number): void {
    if (!this.eager.mayTry(this.now, 4 * KiB)) {
      this.now += 0.1
      if (!cached) this.blocks++
      return
    }
    const began = this.now
    this.now += cached ? 0.002 : diskMs
    if (!cached) {
      this.blocks++
      this.stalledMs += diskMs
    }
    this.eagerReads++
    this.eager.tried(began, this.now, 4 * KiB)
  }
}

describe('reading on the loop', () => {
  it('goes on while the cache answers', () => {
    const reads = new Reads()
    for (let count = 0; count < 10_000; count++) reads.read(true, 0)
    expect(reads.eagerReads).to.equal(10_000)
  })

  for (const diskMs of [0.1, 1, 10, 300])
    for (const misses of [1, 0.5, 0.01])
      it(`stalls for a small share where ${misses * 100} % wait for ${diskMs} ms`, () => {
        const reads = new Reads()
        let chance = 0
        while (reads.now < 100_000 && chance < 2_000_000) {
          chance++
          reads.read((chance * 0.6180339887) % 1 >= misses, diskMs)
        }
        expect(reads.stalledMs / reads.now).to.be.below(1 / 32 + 1e-9)
      })

  it('comes back when the cache is warm', () => {
    const reads = new Reads()
    for (let count = 0; count < 50; count++) reads.read(false, 0.1)
    reads.now += 60_000
    const before = reads.eagerReads
    for (let count = 0; count < 1000; count++) reads.read(true, 0)
    expect(reads.eagerReads - before).to.equal(1000)
  })

  it('forgives one slow read when nothing was read from a disk, not several', () => {
    const eager = new Eager(() => 0)
    eager.tried(0, 3, 4 * KiB)
    expect(eager.mayTry(3, 4 * KiB), 'interrupted').to.equal(true)
    eager.tried(4, 7, 4 * KiB)
    expect(eager.mayTry(7, 4 * KiB), 'a disk that does not count').to.equal(false)
  })

  it('leaves long reads to a thread', () => {
    const eager = new Eager(() => 0)
    expect(eager.mayTry(0, eagerBytesMax)).to.equal(true)
    expect(eager.mayTry(0, eagerBytesMax + 1)).to.equal(false)
  })
})
