import type { Random } from '../base/random.ts'

/** Milliseconds before the first attempt to reconnect, and the most between two. */
const firstDelay = 50
const delayMax = 5000

/**
 * How long to wait before each attempt to reconnect: twice as long every time, and anything between
 * half of it and all of it, so that many clients of a target that restarts do not come at once.
 */
export class Backoff {
  private readonly random: Random
  private attempts = 0

  constructor(random: Random) {
    this.random = random
  }

  /** Milliseconds to wait now. */
  next(): number {
    const delay = Math.min(delayMax, firstDelay * 2 ** this.attempts)
    if (delay < delayMax) this.attempts++
    return delay * (0.5 + this.random.fraction() / 2)
  }

  /** The peer proved well: the next failure starts from the beginning. */
  reset(): void {
    this.attempts = 0
  }
}
