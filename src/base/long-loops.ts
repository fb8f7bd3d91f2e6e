import type { Clock } from './clock.ts'
import { Ring } from './ring.ts'

/** A loop that may be too long for one turn of the event loop. */
export interface LongLoop {
  /** Goes on for a millisecond or two, and is added again if that was not all. */
  goOn(): void
}

/** Milliseconds after which long loops, all of them together, leave the turn to everybody else. */
const turnMsMax = 2

/** Long loops give way: at the end of each turn they go on in turn, for a short time in all. */
export class LongLoops {
  private readonly clock: Clock
  private readonly waiting = new Ring<LongLoop>()
  private deferred = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Has `loop` go on once, never before this returns. */
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

/** Those of one event loop: they share its time, so that many hold it no longer than one. */
export function longLoops(clock: Clock): LongLoops {
  let loops = ofClocks.get(clock)
  if (loops === undefined) {
    loops = new LongLoops(clock)
    ofClocks.set(clock, loops)
  }
  return loops
}
