const barColumns = 24

/**
 * A bar with the time left, on a terminal; one line per step elsewhere. Goes to standard error, so
 * that standard output holds the report alone.
 */
export class Progress {
  private readonly steps: number
  private readonly started = performance.now()
  private done = 0

  constructor(steps: number) {
    this.steps = steps
  }

  /** One step begins. */
  step(what: string): void {
    const seconds = (performance.now() - this.started) / 1000
    const left = this.done === 0 ? null : (seconds / this.done) * (this.steps - this.done)
    const time = left === null ? '' : `${describeSeconds(left)} left`
    if (process.stderr.isTTY) {
      const full = Math.round((this.done / this.steps) * barColumns)
      const bar = '█'.repeat(full) + '░'.repeat(barColumns - full)
      process.stderr.write(`\r\u001b[K${bar} ${this.done}/${this.steps} ${time}  ${what}`)
    } else process.stderr.write(`${this.done + 1}/${this.steps} ${what} ${time}\n`)
    this.done++
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  }
}

export function describeSeconds(seconds: number): string {
  const whole = Math.ceil(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`
}
