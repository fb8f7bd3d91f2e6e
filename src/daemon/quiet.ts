import type { Clock } from '../base/clock.ts'
import type { Log, LogFields } from '../base/log.ts'

type Level = keyof Log

/** How many lines a `QuietLog` passes on. */
interface Quota {
  readonly linesMax: number
  /** Milliseconds in which so many lines are passed on. */
  readonly timeMs: number
  /** Milliseconds up to which that time doubles. Absent: it does not, and keeps its lines. */
  readonly timeMsMax?: number
}

/**
 * Passes on so many lines in a time and drops the others, except for the last, which is written
 * when the time is over: for lines that peers can cause as often as they like, which must not fill
 * a disk. While lines are dropped, the time doubles up to a limit, with one line in each.
 */
export class QuietLog implements Log {
  readonly debug = (fields: LogFields, message: string): void => this.pass('debug', fields, message)
  readonly info = (fields: LogFields, message: string): void => this.pass('info', fields, message)
  readonly warn = (fields: LogFields, message: string): void => this.pass('warn', fields, message)
  readonly error = (fields: LogFields, message: string): void => this.pass('error', fields, message)
  private readonly log: Log
  private readonly clock: Clock
  private readonly quota: Required<Quota>
  /** The length of the present time in milliseconds, and the lines that it may have. */
  private lengthMs: number
  private allowed: number
  private until = 0
  private lines = 0
  private dropped = false
  /** The last line that was dropped; and the number of dropped lines before it. */
  private kept: Kept | null = null
  private unsaid = 0

  constructor(log: Log, clock: Clock, quota: Quota) {
    this.log = log
    this.clock = clock
    this.quota = { timeMsMax: quota.timeMs, ...quota }
    this.lengthMs = quota.timeMs
    this.allowed = quota.linesMax
  }

  private pass(level: Level, fields: LogFields, message: string): void {
    const now = this.clock.now()
    if (now >= this.until) this.begin(now)
    if (this.lines < this.allowed) {
      this.lines++
      this.log[level](fields, message)
      return
    }
    this.dropped = true
    if (this.kept === null) this.clock.timer(this.until - now, this.flush)
    else this.unsaid += 1 + unsaidBy(this.kept)
    this.kept = { level, fields, message }
  }

  private begin(now: number): void {
    const { timeMs, timeMsMax, linesMax } = this.quota
    const calm = !this.dropped || now >= this.until + this.lengthMs
    this.lengthMs = calm ? timeMs : Math.min(2 * this.lengthMs, timeMsMax)
    this.allowed = calm || timeMs === timeMsMax ? linesMax : 1
    this.until = now + this.lengthMs
    this.lines = 0
    this.dropped = false
  }

  /** Writes the last line that was dropped, with the number of those before it. */
  readonly flush = (): void => {
    const { kept } = this
    if (kept === null) return
    const unsaid = this.unsaid + unsaidBy(kept)
    this.kept = null
    this.unsaid = 0
    this.log[kept.level]({ ...kept.fields, unsaid }, kept.message)
  }

  /** True when it has nothing left to say, and nothing to remember. */
  get isIdle(): boolean {
    return this.kept === null && this.clock.now() >= this.until + this.lengthMs
  }
}

interface Kept {
  readonly level: Level
  readonly fields: LogFields
  readonly message: string
}

/** How many lines one line stands for that another quiet log has dropped. */
function unsaidBy({ fields: { unsaid } }: Kept): number {
  return typeof unsaid === 'number' ? unsaid : 0
}
