import { isPast, remembers, sameGeneration, type VolumeRecord } from '../record.ts'

/** What a leg shows of the volume. */
export interface Shown {
  /** Id of the member that the leg is. */
  readonly self: string
  readonly record: VolumeRecord
}

/**
 * Whether nothing was ever acknowledged in the record's generation. Its head had to write it to
 * every leg in sync before; one of them has gone another way from `base` on and never had it, since
 * that head died, or a newer one took the legs from it in the middle of that. What the record's leg
 * has besides is no side of a split brain then: it is filled.
 *
 * Of a generation that was served every leg in sync says so before anything is acknowledged in it:
 * it is the record's base. So a leg that was put back to an older state, with the record of its
 * head, proves nothing against one that has what was written since. By an operator's word a volume
 * goes on from older legs as well; that is kept, and after it nothing is concluded.
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
  // Records of before do not say.
  return forcedAt === undefined || (forcedAt !== null && forcedAt.counter >= base.counter)
}
