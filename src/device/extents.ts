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
 * They cover the request's length or, when there are too many, a prefix of it that is not empty.
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

  clear(): void {
    empty(this.lengths)
    empty(this.flags)
  }
}
