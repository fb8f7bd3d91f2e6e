import {
  historyGenerationsMax,
  isPast,
  remembers,
  sameGeneration,
  type VolumeRecord,
} from '../record.ts'

/** What a leg shows of the volume. */
export interface Shown {
  /** Id of the member that the leg is. */
  readonly self: string
  readonly record: VolumeRecord
}

/**
 * Whether nothing was ever acknowledged in the record's generation. Its head had to write it to
 * every leg in sync first, and one of these legs never had it and has gone another way from `base`
 * on: that head died in the middle, or a newer one took the legs from it. What the record's leg has
 * besides is then no side of a split brain, and the leg is filled.
 *
 * Every leg in sync notes as its base the generation that is served, before anything is
 * acknowledged in it. So a leg that was put back to an older state, with the record of its head,
 * proves nothing against a leg that has what was written since. By an operator's word a volume goes
 * on from older legs as well; records keep that, and then nothing is concluded.
 */
export function wasNeverServed(record: VolumeRecord, legs: readonly Shown[]): boolean {
  const inSync = record.members.filter(({ state }) => state === 'in-sync')
  return legs.some(({ self, record: other }) => {
    const without =
      other.volume === record.volume &&
      inSync.some(({ id }) => id === self) &&
      !isPast(record, other) &&
      !remembers(record, other.generation) &&
      !sameGeneration(record.generation, other.generation)
    return without && remembers(other, record.base) && !isForcedSince(other, record)
  })
}

/** Whether an operator may have had the volume start from older legs since the record's base. */
function isForcedSince({ forcedAt }: VolumeRecord, { base }: VolumeRecord): boolean {
  // Records of older versions do not say.
  return forcedAt === undefined || (forcedAt !== null && forcedAt.counter >= base.counter)
}

/**
 * Whether `older` is from before all that the other record remembers: it may be its past, or not.
 */
export function tooOldToCompare(older: VolumeRecord, { history }: VolumeRecord): boolean {
  const first = history.at(historyGenerationsMax - 1)
  return first !== undefined && older.generation.counter < first.counter
}

/** Why a leg counts as diverged: a split brain, or a history too old to compare. */
export function splitReason(leg: VolumeRecord, record: VolumeRecord): string {
  const theirs = leg.generation.counter
  const ours = record.generation.counter
  if (tooOldToCompare(leg, record)) {
    const since = record.history.at(-1)!.counter
    return (
      `its history is too old to compare: it is at generation ${theirs}, the volume at ${ours} ` +
      `remembers those since ${since}; \`dst leg attach --discard\` fills it, whatever it has`
    )
  }
  if (tooOldToCompare(record, leg))
    return (
      `this head's record is too old to compare: it is at generation ${ours}, the leg at ` +
      `${theirs}; if the leg is right, start with \`dst volume start --force --leg\``
    )
  return `split brain: it is at generation ${theirs} of its own, the volume at ${ours}`
}
