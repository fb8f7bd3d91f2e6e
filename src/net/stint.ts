import type { Clock } from '../base/clock.ts'
import { longLoops, type LongLoop } from '../base/long-loops.ts'
import { KiB, MiB } from '../base/size.ts'

/** Milliseconds for which one connection takes requests in before all others have their turn. */
const stintMsMax = 2

/** The clock is looked at whenever requests were about so many bytes, each with some more. */
const bytesBetween = 4 * MiB
const bytesExtra = 256 * KiB

/**
 * Bounds how long one connection has the event loop. What a device answers at once it answers while
 * it is asked, and what has landed may ask for thousands of such things: the rest of them is a long
 * loop, one of all those that share a turn's time.
 */
export class Stint implements LongLoop {
  /** Whether it is over, and nobody is told yet that another may begin. */
  resting = false
  private readonly clock: Clock
  private readonly rested: () => void
  private bytesLeft = 0
  /** 0 until the first look at the clock. */
  private end = 0

  /** `rested` is called once after each stint that was over, when others had their turn. */
  constructor(clock: Clock, rested: () => void) {
    this.clock = clock
    this.rested = rested
  }

  begin(): void {
    this.bytesLeft = bytesBetween
    this.end = 0
  }

  /** Whether the next request, about so many bytes, has to wait until `rested` is called. */
  over(bytes: number): boolean {
    this.bytesLeft -= bytesExtra + bytes
    if (this.bytesLeft > 0) return false
    this.bytesLeft = bytesBetween
    const now = this.clock.now()
    if (this.end === 0) this.end = now + stintMsMax
    if (now < this.end) return false
    this.resting = true
    longLoops(this.clock).add(this)
    return true
  }

  goOn(): void {
    this.resting = false
    this.rested()
  }
}
