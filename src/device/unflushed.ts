import type { Completer, Request } from './request.ts'

/**
 * Whether a device that lost its cache lost anything that was acknowledged. Flushes do not report
 * that by themselves: the first to come would, and the other clients would never know. So losses
 * are counted, and `LossReport` tells each client.
 */
export class Unflushed {
  /** How often changes may have been lost that were acknowledged, perhaps by an earlier process. */
  losses = 0
  /** Changes acknowledged so far, and as many of them as a flush is known to cover. */
  private acknowledged = 0
  private flushed = 0
  /**
   * Whether an earlier process, of which nothing is known, may have left something. Until a flush
   * has covered that, a loss has to be told: clients may have read it, or have written it then.
   */
  private inherits = true
  private readonly idle: FlushMark[] = []

  get pending(): boolean {
    return this.acknowledged > this.flushed
  }

  /** Whether there is anything to lose. */
  get mayLose(): boolean {
    return this.inherits || this.pending
  }

  /** A change that did not force unit access succeeded. */
  acknowledge(): void {
    this.acknowledged++
  }

  /** If this flush succeeds, whatever was acknowledged by now is on stable storage. */
  watch(flush: Request): void {
    const mark = this.idle.pop() ?? new FlushMark(this)
    mark.acknowledged = this.acknowledged
    flush.push(mark)
  }

  /** @internal */
  ended(mark: FlushMark, success: boolean): void {
    if (success) {
      this.flushed = Math.max(this.flushed, mark.acknowledged)
      this.inherits = false
    }
    this.idle.push(mark)
  }

  /** What was not flushed may be gone. */
  cacheLost(): void {
    if (this.mayLose) this.losses++
    this.inherits = false
    this.flushed = this.acknowledged
  }
}

/** Remembers for a flush under way what it covers. Reused. */
class FlushMark implements Completer {
  private readonly unflushed: Unflushed
  acknowledged = 0

  constructor(unflushed: Unflushed) {
    this.unflushed = unflushed
  }

  completed(flush: Request): void {
    this.unflushed.ended(this, flush.error === null)
    flush.complete()
  }
}
