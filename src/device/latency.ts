import type { Clock } from '../base/clock.ts'
import type { Operation, Request } from './request.ts'

/** One in so many quick requests is timed, by operation: reading the clock is not free. */
const quickOnes = 8
/** One in so many requests that are answered within `atOnceMs` is timed. */
const onesAtOnce = 32
const atOnceMs = 0.02
/** One in so many, where the next is timed within `manyMs` already: there are very many. */
const onesOfMany = 128
const manyMs = 100
/** Milliseconds from which a request is slow: after it every request is timed that can be. */
const slowMs = 10
/** Share of the newest time in the smoothed one. */
const share = 1 / 4
/** Milliseconds after which a time is too old to say anything of now. */
const rememberMs = 60_000

/** Measures how long a device takes for requests: one at a time, and few while they are quick. */
export class Latency {
  private readonly clock: Clock
  private timed: Request | null = null
  private since = 0
  /** By operation: a request is timed if these bits of its number are zero. */
  private readonly masks = [0, 0, 0, 0, 0, 0]
  private readonly smoothed = [0, 0, 0, 0, 0, 0]
  private readonly takenAt = [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity]

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** `count` is the number of requests of the operation before this one. */
  submitted(request: Request, count: number): void {
    if ((count & this.masks[request.operation]!) !== 0 || this.timed !== null) return
    this.timed = request
    this.since = this.clock.now()
  }

  completed(request: Request): void {
    if (request === this.timed) this.end(request)
  }

  private end(request: Request): void {
    this.timed = null
    // A failed request says nothing of how long one takes that is carried out.
    if (request.error !== null) return
    const { operation } = request
    const now = this.clock.now()
    const took = now - this.since
    const age = now - this.takenAt[operation]!
    const timed = took > atOnceMs ? quickOnes : age > manyMs ? onesAtOnce : onesOfMany
    this.masks[operation] = took >= slowMs ? 0 : timed - 1
    const known = age <= rememberMs
    const before = known ? this.smoothed[operation]! : took
    this.smoothed[operation] = before + (took - before) * share
    this.takenAt[operation] = now
  }

  /**
   * Milliseconds that requests of the operation took in the last minute, smoothed; or that a slow
   * one under way has taken so far, if more. Null when none was timed.
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
