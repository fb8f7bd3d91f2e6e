import { KiB } from '../../base/size.ts'

/** Reads up to this length are tried at once; for longer ones a thread costs little. */
export const eagerBytesMax = 1024 * KiB

/** Such reads are done in steps of this length, which are timed one by one. */
export const eagerStepBytes = 128 * KiB

/** A read from the page cache takes no longer than this and a nanosecond per byte. */
const quickMs = 0.05
const quickMsPerByte = 1e-6
/** After a read that waited for the disk, no other is tried for this many times its duration. */
const pauseFactor = 32
const pauseMsMin = 1
const pauseMsMax = 60_000
/** Quick reads in a row after which earlier waits are forgotten. */
const forgetAfter = 64
/** From so many slow reads on they count as waits, although the disk seems not to be read. */
const suspiciousMax = 2

/**
 * Decides when to read a file on the event loop's own thread. From the page cache that takes a
 * microsecond, and handing it to a thread takes tens; from a disk it stalls all clients. The kernel
 * does not tell beforehand, so reads are timed: after one that waited, none is tried for a pause
 * that grows with the time it took and with every further wait. All stalls together stay below 1/32
 * of the time.
 *
 * A slow read while the process' count of blocks read from disks did not move was most likely
 * interrupted by another process: only several of them count.
 */
export class Eager {
  private readonly blocksRead: () => number
  private notBefore = 0
  private factor = pauseFactor
  private quickInRow = 0
  private suspicious = 0
  private lastBlocksRead: number

  /** `blocksRead` counts what this process had to read from disks: see getrusage(2). */
  constructor(blocksRead: () => number) {
    this.blocksRead = blocksRead
    this.lastBlocksRead = blocksRead()
  }

  /** True if a read of `length` bytes may be tried on the loop at `now`, in milliseconds. */
  mayTry(now: number, length: number): boolean {
    return length <= eagerBytesMax && now >= this.notBefore
  }

  /** A read of `length` bytes was tried from `began` to `now`, in milliseconds. */
  tried(began: number, now: number, length: number): void {
    const took = now - began
    if (took > quickMs + length * quickMsPerByte) this.wasSlow(now, took)
    else if (++this.quickInRow === forgetAfter) {
      this.factor = pauseFactor
      this.suspicious = 0
    }
  }

  private wasSlow(now: number, took: number): void {
    this.quickInRow = 0
    const blocks = this.blocksRead()
    const waited = blocks !== this.lastBlocksRead
    this.lastBlocksRead = blocks
    if (!waited && ++this.suspicious < suspiciousMax) return
    this.notBefore = now + Math.min(pauseMsMax, Math.max(pauseMsMin, took * this.factor))
    this.factor *= 2
  }
}
