import {
  entryTextMax,
  type HistoryEntry,
  type HistoryKind,
  type ResyncSummary,
  type VolumeRecord,
} from '../record.ts'

/** Milliseconds within which the same thing again is a repeat: longer than any pause of a retry. */
const repeatMs = 10 * 60_000
/** How many entries back a repeat is looked for: one try adds up to four, and legs take turns. */
const repeatEntries = 16

/** What happened; `at` is wall time in milliseconds. */
interface Happening {
  readonly kind: HistoryKind
  readonly leg?: string
  readonly text: string
  readonly resync?: ResyncSummary
}

/**
 * Adds a line to the history, and drops the oldest when there are too many. What happens again and
 * again, to a leg that fails at each try, is one line with a count: it must not push out the rest.
 */
export function addEntry(
  record: VolumeRecord,
  limit: number,
  at: number,
  what: Happening,
): HistoryEntry {
  const { kind, leg = '', text, resync } = what
  const { entries } = record
  const number = next(entries.at(-1)?.number ?? 0)
  const before = takeRepeated(entries, at, what)
  const entry: HistoryEntry = {
    number,
    at,
    kind,
    leg,
    text: text.slice(0, entryTextMax),
    generation: record.generation.counter,
    ...(resync === undefined ? {} : { resync }),
    ...(before === null
      ? {}
      : { times: next(before.times ?? 1), first: before.first ?? before.at }),
  }
  entries.push(entry)
  if (entries.length > limit) entries.splice(0, entries.length - limit)
  return entry
}

/**
 * The number after it, bounded: a record written by other software may hold the largest that JSON
 * can carry exactly.
 */
function next(number: number): number {
  return Math.min(number + 1, Number.MAX_SAFE_INTEGER)
}

/**
 * Takes out the entry that this one repeats; null if there is none. What operators do, and what a
 * verify found, is always news.
 */
function takeRepeated(entries: HistoryEntry[], at: number, what: Happening): HistoryEntry | null {
  const { kind, leg = '', text, resync } = what
  if (kind === 'operator' || kind === 'verify') return null
  const pattern = patternOf(text)
  const last = Math.max(0, entries.length - repeatEntries)
  for (let place = entries.length - 1; place >= last; place--) {
    const entry = entries[place]!
    if (at - entry.at > repeatMs) return null
    const same = entry.kind === kind && entry.leg === leg && entry.resync?.kind === resync?.kind
    if (!same || patternOf(entry.text) !== pattern) continue
    entries.splice(place, 1)
    return entry
  }
  return null
}

/** The text without its numbers: the same trouble at another offset is a repeat. */
function patternOf(text: string): string {
  return text.slice(0, entryTextMax).replace(/\d+/g, '0')
}
