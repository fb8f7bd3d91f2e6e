import type { Clock, Timer } from '../base/clock.ts'
import type { Log, LogFields } from '../base/log.ts'

type Level = keyof Log

/** Milliseconds of the first window after a line, in which its repeats are counted. */
const windowMsMin = 10_000
/** Milliseconds of the longest window. */
const windowMsMax = 600_000
/** Kinds of lines that are remembered; beyond that the oldest is forgotten. */
const kindsMax = 1000

/** One kind of line. */
interface Kind {
  readonly key: string
  readonly level: Level
  /** The last repeat, and the number of repeats in this window. */
  fields: LogFields
  message: string
  repeats: number
  /** The length of the window in milliseconds, and its end on the clock's scale. */
  windowMs: number
  until: number
  timer: Timer | null
}

/**
 * Writes the first of several equal lines at once. Counts the repeats, and writes the last of them
 * with their number (`repeated`) when the window ends: after 10 s at first, after twice the time
 * whenever the line repeats, up to ten minutes. So an attempt that fails all night does not fill a
 * disk. Lines are equal if they differ in nothing but numbers and the causes of errors.
 */
export class FoldingLog implements Log {
  readonly debug = (fields: LogFields, message: string): void => this.pass('debug', fields, message)
  readonly info = (fields: LogFields, message: string): void => this.pass('info', fields, message)
  readonly warn = (fields: LogFields, message: string): void => this.pass('warn', fields, message)
  readonly error = (fields: LogFields, message: string): void => this.pass('error', fields, message)
  private readonly log: Log
  private readonly clock: Clock
  private readonly kinds = new Map<string, Kind>()

  constructor(log: Log, clock: Clock) {
    this.log = log
    this.clock = clock
  }

  /** The number of repeats that are not written yet. */
  get untold(): number {
    let sum = 0
    for (const { repeats } of this.kinds.values()) sum += repeats
    return sum
  }

  private pass(level: Level, fields: LogFields, message: string): void {
    const now = this.clock.now()
    const key = keyOf(level, fields, message)
    const known = this.kinds.get(key)
    if (known !== undefined && now < known.until) {
      known.repeats++
      known.fields = fields
      known.message = message
      known.timer ??= this.clock.timer(known.until - now, () => this.endWindow(known))
      return
    }
    this.log[level](fields, message)
    if (known === undefined) {
      const kind = { key, level, fields, message, repeats: 0, windowMs: windowMsMin }
      this.remember({ ...kind, until: now + windowMsMin, timer: null })
      return
    }
    // A line that comes again soon after its window reports the same trouble.
    const soon = now - known.until < windowMsMax
    this.openWindow(known, soon ? 2 * known.windowMs : windowMsMin)
  }

  private readonly endWindow = (kind: Kind): void => {
    kind.timer = null
    this.tell(kind)
    this.openWindow(kind, 2 * kind.windowMs)
  }

  private openWindow(kind: Kind, windowMs: number): void {
    kind.windowMs = Math.min(windowMs, windowMsMax)
    kind.until = this.clock.now() + kind.windowMs
  }

  private tell(kind: Kind): void {
    const { level, fields, message, repeats, windowMs } = kind
    if (repeats === 0) return
    kind.repeats = 0
    const note = repeats === 1 ? '' : ` (${repeats} times within ${windowMs / 1000} s)`
    this.log[level]({ ...fields, repeated: repeats }, `${message}${note}`)
  }

  private remember(kind: Kind): void {
    for (const oldest of this.kinds.values())
      if (this.kinds.size >= kindsMax) this.forget(oldest)
      else break
    this.kinds.set(kind.key, kind)
  }

  private forget(kind: Kind): void {
    kind.timer?.cancel()
    this.tell(kind)
    this.kinds.delete(kind.key)
  }
}

/** A text that is the same for lines that are repeats of one another. */
function keyOf(level: Level, fields: LogFields, message: string): string {
  const words: string[] = [level, withoutNumbers(message)]
  for (const [name, value] of Object.entries(fields)) {
    // Names stay whole, for they may differ in a number alone; a peer's port changes each time.
    if (name === 'peer') words.push(String(value).replace(/:\d+$/, ''))
    else if (name === 'reason' && typeof value === 'string') words.push(withoutNumbers(value))
    else if (typeof value === 'string') words.push(value)
    else if (value instanceof Error) words.push(withoutNumbers(value.message))
  }
  return words.join('\n')
}

function withoutNumbers(text: string): string {
  return text.replace(/\d+/g, '#')
}
