import type { Clock } from './clock.ts'
import { Ring } from './ring.ts'

/** A loop that may be too long for one turn of the event loop. */
export interface LongLoop {
  /** Works for a millisecond or two, and adds itself again if more is left to do. */
  goOn(): void
}

/** Milliseconds that all long loops together take of one turn of the event loop. */
const turnMsMax = 2

/** Runs long loops by turns at the end of each turn of the event loop, for a short time in all. */
export class LongLoops {
  private readonly clock: Clock
  private readonly waiting = new Ring<LongLoop>()
  private deferred = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Calls `goOn` of the loop once, never before this returns. */
  add(loop: LongLoop): void {
    this.waiting.push(loop)
    if (!this.deferred) this.clock.defer(this.turn)
    this.deferred = true
  }

  private readonly turn = (): void => {
    const end = this.clock.now() + turnMsMax
    do this.waiting.shift()!.goOn()
    while (this.waiting.length > 0 && this.clock.now() < end)
    this.deferred = this.waiting.length > 0
    if (this.deferred) this.clock.defer(this.turn)
  }
}

const ofClocks = new WeakMap<Clock, LongLoops>()

/** Returns the loops of the clock's event loop: they share its time, so many hold it up as one. */
export function longLoops(clock: Clock): LongLoops {
  let loops = ofClocks.get(clock)
  if (loops === undefined) {
    loops = new LongLoops(clock)
    ofClocks.set(clock, loops)
  }
  return loops
}
