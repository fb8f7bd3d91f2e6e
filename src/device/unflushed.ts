import type { StorageError } from '../base/errors.ts'
import type { Completer, Request } from './request.ts'

/**
 * Whether a device that lost its cache lost anything that clients rely on: what was acknowledged,
 * and what may have been read, such as a change that failed half-way. Flushes do not report that by
 * themselves: the first to come would, and the other clients would never know. So losses are
 * counted, and `LossReport` tells each client.
 */
export class Unflushed {
  /** How often something may have been lost that clients relied on. */
  losses = 0
  /** Changes acknowledged so far, and how many of them a flush has covered. */
  private acknowledged = 0
  private flushed = 0
  /**
   * The same counts of changes that were not acknowledged and may be read all the same: the first
   * is what an earlier process may have left, the others are changes that failed.
   */
  private left = 1
  private leftFlushed = 0
  private readonly idle: FlushMark[] = []

  /** True while acknowledged changes wait for a flush. */
  get pending(): boolean {
    return this.acknowledged > this.flushed
  }

  /** True if a loss of the cache would lose something that clients rely on. */
  get mayLose(): boolean {
    return this.pending || this.left > this.leftFlushed
  }

  /** Counts a change that succeeded without forcing unit access. */
  acknowledge(): void {
    this.acknowledged++
  }

  /** Counts a change that failed: all or a part of it may be done, now or later. */
  fail(): void {
    this.left++
  }

  /** Watches a flush: if it succeeds, it covers all changes that are counted by now. */
  watch(flush: Request): void {
    const mark = this.idle.pop() ?? new FlushMark(this)
    mark.acknowledged = this.acknowledged
    mark.left = this.left
    flush.push(mark)
  }

  /** @internal */
  ended(mark: FlushMark, error: StorageError | null): void {
    if (error === null) {
      this.flushed = Math.max(this.flushed, mark.acknowledged)
      this.leftFlushed = Math.max(this.leftFlushed, mark.left)
    }
    this.idle.push(mark)
  }

  /** Counts a loss of unflushed changes. A failed change may still be made after the loss. */
  cacheLost(): void {
    if (this.mayLose) this.losses++
    this.leftFlushed = Math.max(this.leftFlushed, 1)
    this.flushed = this.acknowledged
  }
}

/** Remembers for a flush under way what it covers. Reused. */
class FlushMark implements Completer {
  private readonly unflushed: Unflushed
  acknowledged = 0
  left = 0

  constructor(unflushed: Unflushed) {
    this.unflushed = unflushed
  }

  completed(flush: Request): void {
    this.unflushed.ended(this, flush.error)
    flush.complete()
  }
}
