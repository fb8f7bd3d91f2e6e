import type { Clock, Timer } from '../base/clock.ts'

/** A pause after a failure, twice as long each time. */
export class BackOff {
  private timer: Timer | null = null
  private ms = 0

  get isOver(): boolean {
    return this.timer === null
  }

  /**
   * Begins the next pause, of `least` to `most` milliseconds. Calls `over` at its end, unless `end`
   * comes first.
   */
  begin(clock: Clock, least: number, most: number, over: () => void): void {
    this.ms = Math.min(most, Math.max(least, this.ms * 2))
    this.timer?.cancel()
    this.timer = clock.timer(this.ms, () => {
      this.timer = null
      over()
    })
  }

  /** Ends the pause, because all is well: the next one is the shortest. */
  end(): void {
    this.timer?.cancel()
    this.timer = null
    this.ms = 0
  }
}
