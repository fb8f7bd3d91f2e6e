import {
  entryTextMax,
  type HistoryEntry,
  type HistoryKind,
  type ResyncSummary,
  type VolumeRecord,
} from './record.ts'

/** Adds a line to the history, and drops the oldest when there are too many. */
export function addEntry(
  record: VolumeRecord,
  limit: number,
  at: number,
  what: { kind: HistoryKind; leg?: string; text: string; resync?: ResyncSummary },
): HistoryEntry {
  const { kind, leg = '', text, resync } = what
  const entry: HistoryEntry = {
    number: (record.entries.at(-1)?.number ?? 0) + 1,
    at,
    kind,
    leg,
    text: text.slice(0, entryTextMax),
    generation: record.generation.counter,
    ...(resync === undefined ? {} : { resync }),
  }
  record.entries.push(entry)
  if (record.entries.length > limit) record.entries.splice(0, record.entries.length - limit)
  return entry
}
