import type { Clock } from '../base/clock.ts'
import type { Log, LogFields } from '../base/log.ts'

type Level = keyof Log

/**
 * Passes on so many lines in a time and drops the others, but for the last, which is told when the
 * time is over: for what peers can bring about as often as they like, which must not fill a disk.
 * While it goes on, the time doubles up to a limit, and one line is passed on in each.
 */
export class QuietLog implements Log {
  readonly debug = (fields: LogFields, message: string): void => this.pass('debug', fields, message)
  readonly info = (fields: LogFields, message: string): void => this.pass('info', fields, message)
  readonly warn = (fields: LogFields, message: string): void => this.pass('warn', fields, message)
  readonly error = (fields: LogFields, message: string): void => this.pass('error', fields, message)
  private readonly log: Log
  private readonly clock: Clock
  private readonly linesMax: number
  private readonly time: number
  private readonly timeMax: number
  /** In this time: how long it is, and the lines that it may have. */
  private length: number
  private allowed: number
  private until = 0
  private lines = 0
  private dropped = false
  /** The last line that was not passed on, and how many before it. */
  private kept: (() => void) | null = null
  private unsaid = 0

  /** `time` and `timeMax` in milliseconds; of the same length, all times have as many lines. */
  constructor(log: Log, clock: Clock, linesMax: number, time: number, timeMax = time) {
    this.log = log
    this.clock = clock
    this.linesMax = linesMax
    this.time = time
    this.timeMax = timeMax
    this.length = time
    this.allowed = linesMax
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
    if (this.kept === null) this.clock.timer(this.until - now, this.tellLast)
    else this.unsaid++
    this.kept = () => this.log[level]({ ...fields, unsaid: this.unsaid }, message)
  }

  private begin(now: number): void {
    const { time, timeMax, linesMax } = this
    const calm = !this.dropped || now >= this.until + this.length
    this.length = calm ? time : Math.min(2 * this.length, timeMax)
    this.allowed = calm || time === timeMax ? linesMax : 1
    this.until = now + this.length
    this.lines = 0
    this.dropped = false
  }

  private readonly tellLast = (): void => {
    this.kept!()
    this.kept = null
    this.unsaid = 0
  }
}
