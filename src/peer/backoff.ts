import type { Random } from '../base/random.ts'

/** Milliseconds before the first attempt to reconnect, and the most between two. */
const firstDelayMs = 50
const delayMsMax = 5000

/**
 * Says how long to wait before each attempt to reconnect: up to twice as long every time, by chance
 * between half of that and all of it, so that the clients of a target that restarts come apart.
 */
export class Backoff {
  private readonly random: Random
  private attempts = 0

  constructor(random: Random) {
    this.random = random
  }

  /** Milliseconds to wait now. */
  next(): number {
    const delay = Math.min(delayMsMax, firstDelayMs * 2 ** this.attempts)
    if (delay < delayMsMax) this.attempts++
    return delay * (0.5 + this.random.fraction() / 2)
  }

  /** The peer has proved good: after the next failure the waits start over. */
  reset(): void {
    this.attempts = 0
  }
}
