const barColumns = 24
/** Seconds of a run after which its own pace tells more than the plan. */
const trustedSeconds = 5

/**
 * A bar with the time left, on a terminal; one line per step elsewhere. Goes to standard error, so
 * that standard output holds the report alone. A run has parts, each planned with its seconds.
 */
export class Progress {
  private readonly total: number
  private readonly started = performance.now()
  private base = 0
  private planned = 0

  /** `total` is the sum of what the parts plan, in seconds. */
  constructor(total: number) {
    this.total = total
  }

  /** The next part begins; the one before is over, however long it took. */
  part(seconds: number): void {
    this.base += this.planned
    this.planned = seconds
  }

  /** A step of the part begins, `done` of its planned seconds from the part's start. */
  at(what: string, done: number): void {
    const place = Math.min(this.total, this.base + Math.min(done, this.planned))
    const spent = (performance.now() - this.started) / 1000
    const left = secondsLeft(this.total, place, spent)
    const time = `${describeSeconds(left)} left`
    if (process.stderr.isTTY) {
      const full = this.total === 0 ? 0 : Math.round((place / this.total) * barColumns)
      const bar = '█'.repeat(full) + '░'.repeat(barColumns - full)
      const line = cut(`${bar} ${time}  ${what}`, process.stderr.columns)
      process.stderr.write(`\r\u001b[K${line}`)
    } else process.stderr.write(`${describeSeconds(spent)}, ${time}: ${what}\n`)
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  }
}

/** What fits on one line: of one that goes on below, only the end would be overwritten. */
export function cut(line: string, columns: number): string {
  return columns > 0 ? line.slice(0, columns - 1) : line
}

/** What is left of a plan of `total` seconds that took `spent` for its first `place`. */
export function secondsLeft(total: number, place: number, spent: number): number {
  const slowness = place < trustedSeconds ? 1 : spent / place
  return (total - place) * slowness
}

export function describeSeconds(seconds: number): string {
  const whole = Math.ceil(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`
}
