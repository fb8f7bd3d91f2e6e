import { empty } from '../base/empty.ts'
import { assert } from '../base/errors.ts'

/** Reading the range returns zeroes. */
export const extentZero = 1
/** The range takes no space. */
export const extentHole = 2

/** Runs in one answer; for the rest the client asks again. */
export const extentRunsMax = 4096

/**
 * The answer to a `status` request: runs of equal allocation, in order from the request's offset.
 * They cover the request's length or, when there are too many, a prefix of it that is not empty. A
 * driver's may end anywhere, a device's end where its blocks do.
 */
export class Extents {
  /** Bytes of each run. */
  readonly lengths: number[] = []
  /** `extentZero` and `extentHole` of each run. */
  readonly flags: number[] = []

  /** Bytes that the runs cover. */
  get covered(): number {
    let bytes = 0
    for (const length of this.lengths) bytes += length
    return bytes
  }

  /** Adds a run, joined to the last one if that has the same flags. Returns false when full. */
  add(length: number, flags: number): boolean {
    assert(length > 0, 'a run is not empty')
    const last = this.lengths.length - 1
    if (last >= 0 && this.flags[last] === flags) {
      this.lengths[last]! += length
      return true
    }
    if (this.lengths.length === extentRunsMax) return false
    this.lengths.push(length)
    this.flags.push(flags)
    return true
  }

  /**
   * Rounds the runs to whole blocks, counted from the request's offset: a block has the flags that
   * all its parts share. Where the runs end within a block, the answer ends before it; if it is the
   * first one, nothing is claimed of it. `asked` is the request's length.
   */
  roundTo(blockBytes: number, asked: number): void {
    if (areWhole(this.lengths, blockBytes)) return
    // An answer may get longer: a block that two runs share can become a third one.
    for (const length of this.lengths) finer.lengths.push(length)
    for (const flags of this.flags) finer.flags.push(flags)
    this.clear()
    this.addBlocks(finer, blockBytes)
    finer.clear()
    if (this.lengths.length === 0) this.add(Math.min(blockBytes, asked), 0)
  }

  private addBlocks({ lengths, flags }: Extents, blockBytes: number): void {
    /** Bytes of a block that runs so far have begun, and the flags that they share. */
    let begun = 0
    let shared = 0
    for (let at = 0; at < lengths.length; at++) {
      let left = lengths[at]!
      if (begun > 0) {
        const bytes = Math.min(left, blockBytes - begun)
        shared &= flags[at]!
        begun += bytes
        left -= bytes
        if (begun < blockBytes) continue
        if (!this.add(blockBytes, shared)) return
      }
      begun = left % blockBytes
      shared = flags[at]!
      if (left > begun && !this.add(left - begun, shared)) return
    }
  }

  clear(): void {
    empty(this.lengths)
    empty(this.flags)
  }
}

/** Runs that are being rounded: kept, so that rounding allocates nothing. */
const finer = new Extents()

function areWhole(lengths: readonly number[], blockBytes: number): boolean {
  for (const length of lengths) if (length % blockBytes !== 0) return false
  return true
}
