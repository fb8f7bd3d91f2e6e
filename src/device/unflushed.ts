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
  /** Changes acknowledged so far, and as many of them as a flush is known to cover. */
  private acknowledged = 0
  private flushed = 0
  /**
   * The same of what nobody acknowledged and clients may read all the same: the first is what an
   * earlier process may have left, the others are changes that failed.
   */
  private left = 1
  private leftFlushed = 0
  private readonly idle: FlushMark[] = []

  get pending(): boolean {
    return this.acknowledged > this.flushed
  }

  /** Whether there is anything to lose. */
  get mayLose(): boolean {
    return this.pending || this.left > this.leftFlushed
  }

  /** A change that did not force unit access succeeded. */
  acknowledge(): void {
    this.acknowledged++
  }

  /** A change failed, and may be there all the same, or in part, or get there yet. */
  fail(): void {
    this.left++
  }

  /** If this flush succeeds, whatever is there by now is on stable storage. */
  watch(flush: Request): void {
    const mark = this.idle.pop() ?? new FlushMark(this)
    mark.acknowledged = this.acknowledged
    mark.left = this.left
    flush.push(mark)
  }

  /** @internal */
  ended(mark: FlushMark, success: boolean): void {
    if (success) {
      this.flushed = Math.max(this.flushed, mark.acknowledged)
      this.leftFlushed = Math.max(this.leftFlushed, mark.left)
    }
    this.idle.push(mark)
  }

  /** What was not flushed may be gone, but for a change that failed and gets there after that. */
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
    this.unflushed.ended(this, flush.error === null)
    flush.complete()
  }
}
