/** A timer that can be cancelled; cancelling twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void
}

/**
 * Time and turns of the event loop, handed in so that a whole cluster can run on a simulated clock.
 * Deadlines use `now`; wall time is for people to read and never decides which head is newer.
 */
export interface Clock {
  /** Milliseconds on a monotonic scale with an arbitrary origin. */
  now(): number
  /** Milliseconds since 1970, for logs and labels only. */
  wall(): number
  /** Calls back once after `ms` milliseconds. Does not keep the process alive by itself. */
  timer(ms: number, callback: () => void): Timer
  /** Calls back once, after the events that already wait: the end of this turn of the loop. */
  defer(callback: () => void): void
  /** Calls back once, after what runs now, but before any other event. */
  soon(callback: () => void): void
}

/** The longest delay of a system timer, in milliseconds. With a longer one it fires at once. */
export const timerMax = 2 ** 31 - 1

class NodeTimer implements Timer {
  private handle!: NodeJS.Timeout

  constructor(ms: number, callback: () => void) {
    this.start(ms, callback)
  }

  private start(ms: number, callback: () => void): void {
    if (ms <= timerMax) this.handle = setTimeout(callback, ms)
    else this.handle = setTimeout(() => this.start(ms - timerMax, callback), timerMax)
    this.handle.unref()
  }

  cancel(): void {
    clearTimeout(this.handle)
  }
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  timer: (ms, callback) => new NodeTimer(ms, callback),
  defer: (callback) => void setImmediate(callback),
  soon: (callback) => {
    process.nextTick(callback)
  },
}
