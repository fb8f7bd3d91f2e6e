import { systemClock, type Clock, type Timer } from '../../src/base/clock.ts'

interface Due {
  readonly at: number
  readonly callback: () => void
}

/** Every look at it is a millisecond later: what a turn may take does not depend on the machine. */
export function tickingClock(): Clock {
  let now = 0
  return { ...systemClock, now: () => now++ }
}

/** The system's, but for timers, which never call: what goes on does so without any time-out. */
export function timelessClock(): Clock {
  return { ...systemClock, timer: () => ({ cancel: () => undefined }) }
}

/** Time passes only when the test says so. `defer` and `soon` call back with the next `advance`. */
export class ManualClock implements Clock {
  private time = 0
  private due: Due[] = []

  now(): number {
    return this.time
  }

  wall(): number {
    return 1_700_000_000_000 + this.time
  }

  timer(ms: number, callback: () => void): Timer {
    const entry = { at: this.time + ms, callback }
    this.due.push(entry)
    return { cancel: () => void (this.due = this.due.filter((other) => other !== entry)) }
  }

  defer(callback: () => void): void {
    this.timer(0, callback)
  }

  soon(callback: () => void): void {
    this.timer(0, callback)
  }

  /** How many timers wait. */
  get pending(): number {
    return this.due.length
  }

  /** Lets `ms` milliseconds pass and calls back what falls due, in order. */
  advance(ms: number): void {
    const end = this.time + ms
    for (;;) {
      const next = this.due
        .filter((entry) => entry.at <= end)
        .reduce<Due | null>((first, entry) => (first && first.at <= entry.at ? first : entry), null)
      if (next === null) break
      this.due = this.due.filter((entry) => entry !== next)
      this.time = Math.max(this.time, next.at)
      next.callback()
    }
    this.time = end
  }
}

interface Waiting extends Due {
  timer: Timer | null
}

/**
 * The system's, for something that may die: then its timers do, and it gets no new ones. A test may
 * let time pass at once, and stop it, so that nothing but the test lets any pass.
 */
export class MortalClock implements Clock {
  private readonly waiting = new Set<Waiting>()
  private dead = false
  private readonly wallAhead = systemClock.wall() - systemClock.now()
  private skipped = 0
  private stoppedAt: number | null = null

  now(): number {
    return (this.stoppedAt ?? systemClock.now()) + this.skipped
  }

  wall(): number {
    return Math.floor(this.now() + this.wallAhead)
  }

  timer(ms: number, callback: () => void): Timer {
    const entry: Waiting = { at: this.now() + ms, callback, timer: null }
    if (this.dead) return { cancel: () => undefined }
    this.waiting.add(entry)
    this.start(entry)
    return {
      cancel: () => {
        this.waiting.delete(entry)
        entry.timer?.cancel()
      },
    }
  }

  private start(entry: Waiting): void {
    entry.timer?.cancel()
    const ms = Math.max(0, entry.at - this.now())
    if (this.stoppedAt !== null && ms > 0) return
    entry.timer = systemClock.timer(ms, () => {
      this.waiting.delete(entry)
      entry.callback()
    })
  }

  /** What falls due is called back a turn of the loop later; resolves after that. */
  async skip(ms: number): Promise<void> {
    this.skipped += ms
    for (const entry of [...this.waiting].sort((a, b) => a.at - b.at)) this.start(entry)
    await new Promise((resolve) => setTimeout(resolve, 0))
  }

  /** From now on only `skip` lets time pass. */
  stop(): void {
    this.stoppedAt = systemClock.now()
    for (const { timer } of this.waiting) timer?.cancel()
  }

  defer(callback: () => void): void {
    systemClock.defer(callback)
  }

  soon(callback: () => void): void {
    systemClock.soon(callback)
  }

  die(): void {
    this.dead = true
    for (const { timer } of this.waiting) timer?.cancel()
    this.waiting.clear()
  }
}

/** The system's. Once `stuck`, no turn of the loop ends: what waits for that waits for ever. */
export class StuckClock implements Clock {
  stuck = false

  now(): number {
    return systemClock.now()
  }

  wall(): number {
    return systemClock.wall()
  }

  timer(ms: number, callback: () => void): Timer {
    return systemClock.timer(ms, callback)
  }

  defer(callback: () => void): void {
    if (!this.stuck) systemClock.defer(callback)
  }

  soon(callback: () => void): void {
    systemClock.soon(callback)
  }
}
