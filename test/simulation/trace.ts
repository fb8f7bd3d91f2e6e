import type { SimClock } from './clock.ts'

interface Note {
  readonly time: number
  readonly text: string
  /** The sectors it is about; all of them when `sectors` is 0. */
  readonly first: number
  readonly sectors: number
}

/** What happened, for people, and its fingerprint, for the comparison of two runs of one seed. */
export class Trace {
  /** Notes that are printed as they are made. */
  echo = false
  fingerprint = 0x811c9dc5
  private readonly notes: Note[] = []
  private readonly clock: SimClock

  constructor(clock: SimClock) {
    this.clock = clock
  }

  note(text: string, first = 0, sectors = 0): void {
    const { time } = this.clock
    this.notes.push({ time, text, first, sectors })
    const whole = `${time}${text}`
    for (let at = 0; at < whole.length; at++)
      this.fingerprint = Math.imul(this.fingerprint ^ whole.charCodeAt(at), 0x01000193) >>> 0
    if (this.echo) console.log(format(this.notes.at(-1)!))
  }

  /** The last `count` notes that have to do with `sector`, or with everything. */
  about(sector: number, count: number): string[] {
    const related = this.notes.filter(
      ({ first, sectors }) =>
        sectors === 0 || sector < 0 || (first <= sector && sector < first + sectors),
    )
    return related.slice(-count).map(format)
  }
}

function format({ time, text }: Note): string {
  return `${time.toFixed(3).padStart(11)}  ${text}`
}
