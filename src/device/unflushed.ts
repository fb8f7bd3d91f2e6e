import type { StorageError } from '../base/errors.ts'
import type { Completer, Request } from './request.ts'

/**
 * Knows whether a device that loses its cache loses acknowledged changes. A flush does not report
 * the loss by itself: the first would, and the other clients would never know. So losses are
 * counted, and `LossReport` tells each client. A change that failed is not counted: its bytes may
 * be read, but were promised to no client.
 */
export class Unflushed {
  /** How often acknowledged changes may have been lost, those of an earlier process too. */
  losses = 0
  /** Changes acknowledged so far, and how many of them a flush has covered. */
  private acknowledged = 0
  private flushed = 0
  /**
   * True while an earlier process may have left changes without a flush. Until a flush has covered
   * them, a loss has to be told: clients may have read them, or have written them then.
   */
  private inherits = true
  private readonly idle: FlushMark[] = []

  /** True while acknowledged changes wait for a flush. */
  get pending(): boolean {
    return this.acknowledged > this.flushed
  }

  /** True if a loss of the cache may lose acknowledged changes. */
  get mayLose(): boolean {
    return this.inherits || this.pending
  }

  /** Counts a change that succeeded without forcing unit access. */
  acknowledge(): void {
    this.acknowledged++
  }

  /** Watches a flush: if it succeeds, it covers all changes that are counted by now. */
  watch(flush: Request): void {
    const mark = this.idle.pop() ?? new FlushMark(this)
    mark.acknowledged = this.acknowledged
    flush.push(mark)
  }

  /** @internal */
  ended(mark: FlushMark, error: StorageError | null): void {
    if (error === null) {
      this.flushed = Math.max(this.flushed, mark.acknowledged)
      this.inherits = false
    }
    this.idle.push(mark)
  }

  /** Counts a loss, if there were changes without a flush. */
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
    this.unflushed.ended(this, flush.error)
    flush.complete()
  }
}
