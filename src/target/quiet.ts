import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'

type Level = keyof Log

/**
 * Passes on so many lines in a time and drops the others, but for the last, which is told when the
 * time is over: for what peers can bring about as often as they like, which must not fill a disk.
 */
export class QuietLog implements Log {
  readonly debug = (fields: object, message: string): void => this.pass('debug', fields, message)
  readonly info = (fields: object, message: string): void => this.pass('info', fields, message)
  readonly warn = (fields: object, message: string): void => this.pass('warn', fields, message)
  readonly error = (fields: object, message: string): void => this.pass('error', fields, message)
  private readonly log: Log
  private readonly clock: Clock
  private readonly linesMax: number
  private readonly time: number
  private until = 0
  private lines = 0
  /** The last line that was not passed on, and how many before it. */
  private kept: (() => void) | null = null
  private unsaid = 0

  /** `time` in milliseconds. */
  constructor(log: Log, clock: Clock, linesMax: number, time: number) {
    this.log = log
    this.clock = clock
    this.linesMax = linesMax
    this.time = time
  }

  private pass(level: Level, fields: object, message: string): void {
    const now = this.clock.now()
    if (now >= this.until) {
      this.until = now + this.time
      this.lines = 0
    }
    if (this.lines < this.linesMax) {
      this.lines++
      this.log[level](fields, message)
      return
    }
    if (this.kept === null) this.clock.timer(this.until - now, this.tellLast)
    else this.unsaid++
    this.kept = () => this.log[level]({ ...fields, unsaid: this.unsaid }, message)
  }

  private readonly tellLast = (): void => {
    this.kept!()
    this.kept = null
    this.unsaid = 0
  }
}
