import type { Clock } from '../base/clock.ts'
import type { Operation, Request } from './request.ts'

/** Requests that are not timed after a quick one of their kind: reading the clock is not free. */
const skipped = 7
/** The same after one that was answered at once, within so many milliseconds. */
const skippedAtOnce = 31
const atOnceMs = 0.02
/** Milliseconds from which a request is slow: then all are timed that can be. */
const slowMs = 10
/** Share of the newest time in the smoothed one. */
const share = 1 / 4
/** Milliseconds after which a time says nothing of now any more. */
const rememberMs = 60_000

/** How long a device takes for requests. One at a time is timed, and few while they are quick. */
export class Latency {
  private readonly clock: Clock
  private timed: Request | null = null
  private since = 0
  private readonly toSkip = [0, 0, 0, 0, 0, 0]
  private readonly smoothed = [0, 0, 0, 0, 0, 0]
  private readonly takenAt = [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity]

  constructor(clock: Clock) {
    this.clock = clock
  }

  submitted(request: Request): void {
    if (this.timed === null && --this.toSkip[request.operation]! < 0) this.begin(request)
  }

  private begin(request: Request): void {
    this.timed = request
    this.since = this.clock.now()
  }

  completed(request: Request): void {
    if (request === this.timed) this.end(request)
  }

  private end(request: Request): void {
    this.timed = null
    // What is refused at once says nothing of how long it takes.
    if (request.error !== null) return
    const { operation } = request
    const now = this.clock.now()
    const took = now - this.since
    this.toSkip[operation] = took >= slowMs ? 0 : took > atOnceMs ? skipped : skippedAtOnce
    const known = now - this.takenAt[operation]! <= rememberMs
    const before = known ? this.smoothed[operation]! : took
    this.smoothed[operation] = before + (took - before) * share
    this.takenAt[operation] = now
  }

  /**
   * Milliseconds that requests of the operation took in the last minute, smoothed, or that one has
   * taken already which is not complete; null when none was timed.
   */
  of(operation: Operation): number | null {
    const now = this.clock.now()
    const known = now - this.takenAt[operation]! <= rememberMs
    const before = known ? this.smoothed[operation]! : null
    if (this.timed?.operation !== operation) return before
    const taking = now - this.since
    return taking >= Math.max(slowMs, before ?? 0) ? taking : before
  }
}
