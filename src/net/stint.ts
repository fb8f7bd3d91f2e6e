import type { Clock } from '../base/clock.ts'
import { longLoops, type LongLoop } from '../base/long-loops.ts'
import { KiB, MiB } from '../base/size.ts'

/** Milliseconds for which one connection takes requests in before all others have their turn. */
const stintMsMax = 2

/** The clock is read after requests of so many bytes, where each counts as some bytes more. */
const bytesBetween = 4 * MiB
const bytesExtra = 256 * KiB

/**
 * Bounds how long one connection keeps the event loop. Some devices answer before `submit` returns,
 * and what has landed may hold thousands of requests for them: what is left after a stint becomes
 * one of the long loops, which share the time of a turn.
 */
export class Stint implements LongLoop {
  private readonly clock: Clock
  private readonly rested: () => void
  private bytesLeft = 0
  /** Monotonic, milliseconds; 0 until the clock is read first. */
  private end = 0

  /** `rested` is called once after each stint that was over, when others had their turn. */
  constructor(clock: Clock, rested: () => void) {
    this.clock = clock
    this.rested = rested
  }

  /** Starts a stint. */
  begin(): void {
    this.bytesLeft = bytesBetween
    this.end = 0
  }

  /** Counts the next request, of about `bytes`; true when it has to wait for `rested`. */
  over(bytes: number): boolean {
    this.bytesLeft -= bytesExtra + bytes
    if (this.bytesLeft > 0) return false
    this.bytesLeft = bytesBetween
    const now = this.clock.now()
    if (this.end === 0) this.end = now + stintMsMax
    if (now < this.end) return false
    longLoops(this.clock).add(this)
    return true
  }

  goOn(): void {
    this.rested()
  }
}
