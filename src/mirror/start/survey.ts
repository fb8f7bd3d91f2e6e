import { systemError } from '../../base/errors.ts'
import type { Leg } from '../leg.ts'
import { endsOf, isPast, sameGeneration, type VolumeRecord } from '../record.ts'
import { highestMark, markIn, type Found } from '../superblock.ts'
import type { Volume } from '../volume.ts'
import { hadAnotherHead } from './claims.ts'
import { findFilled, formerEnds } from './former.ts'
import { loadOwn, type Kept } from './own-files.ts'
import type { LegView, OwnRecord } from './decision.ts'

/** What the decision on a start depends on. */
export interface Survey {
  readonly own: OwnRecord | null
  readonly kept: Kept<VolumeRecord>
  readonly views: LegView[]
}

/**
 * Reads the head's own record, and examines every leg that is there. Resolves to what was found;
 * what cannot be read is part of that.
 */
export async function survey(volume: Volume): Promise<Survey> {
  const kept = await loadOwn(volume)
  const record = kept.value
  if (record !== null) volume.marks.learn(record)
  let views = await Promise.all(volume.legs.map((leg) => view(volume, leg, record)))
  await lookAtOldEnds(views, record)
  views = withMarks(volume, views, record)
  if (record === null) return { own: null, kept, views }
  const { head } = volume
  if (views.some((one) => tellsOfAnotherHead(record, one))) head.doubt(record)
  return { own: { record, vouches: !head.doubts(record) }, kept, views }
}

function shownBy(views: readonly LegView[]): VolumeRecord[] {
  return views.flatMap(({ found }) =>
    found?.kind === 'superblock' ? [found.superblock.record] : [],
  )
}

function withMarks(volume: Volume, views: readonly LegView[], own: VolumeRecord | null): LegView[] {
  const shown = shownBy(views)
  const records = own === null ? shown : [own, ...shown]
  return views.map((one) => ({ ...one, mark: markOf(volume, one, records) }))
}

/**
 * A serial that the leg had: by what this head knows, and by every record at the generation of the
 * leg, or at a later one that followed it.
 */
function markOf(volume: Volume, { leg, found }: LegView, records: readonly VolumeRecord[]): number {
  if (found?.kind !== 'superblock') return 0
  const { superblock } = found
  const { self, record } = superblock
  const marks = records
    .filter((other) => isSameOrPast(record, other))
    .map((other) => markIn(other, self))
  return Math.max(volume.marks.of(leg, superblock), highestMark(marks, superblock))
}

function isSameOrPast(one: VolumeRecord, other: VolumeRecord): boolean {
  return sameGeneration(one.generation, other.generation) || isPast(one, other)
}

/** Learns the marks of all members from the records that led to this one. */
export function learnMarks(volume: Volume, record: VolumeRecord, views: readonly LegView[]): void {
  for (const { found } of views) {
    if (found?.kind !== 'superblock') continue
    const { superblock } = found
    if (isSameOrPast(superblock.record, record)) volume.marks.learn(superblock.record)
  }
}

/**
 * Whether the leg tells of another head, as a leg of this volume that is not detached. A blank leg
 * may belong to another volume by now, unless it is the very device that is in sync.
 */
function tellsOfAnotherHead(record: VolumeRecord, view: LegView): boolean {
  const { leg, name, found, hadAnotherHead } = view
  if (hadAnotherHead !== true) return false
  if (found?.kind === 'superblock' && found.superblock.record.volume !== record.volume) return false
  const member = record.members.find((one) => one.name === name)
  if (found?.kind === 'blank') return member?.state === 'in-sync' && !leg.isAnotherThan(member)
  return member?.state !== 'detached'
}

async function view(volume: Volume, leg: Leg, own: VolumeRecord | null): Promise<LegView> {
  const { name, device } = leg
  const absent = (reason: string): LegView => {
    return { leg, name, found: null, reason, hadAnotherHead: null, mark: 0 }
  }
  if (!device.usable) return absent(`${device.state.word}: ${device.state.reason}`)
  if (leg.want()) return absent('its old requests are still under way')
  const known = own?.members.find((member) => member.name === name)
  const looking = leg.superblocks.examineEnds(own?.volume ?? '', endsOf(known))
  const seen = await examined(absent(''), looking)
  if (own === null) return seen
  try {
    // Ask also where the leg cannot be read: it may tell all the same.
    return { ...seen, hadAnotherHead: await hadAnotherHead(volume, leg) }
  } catch (error) {
    return absent(seen.reason || systemError(error, 'cannot be examined').message)
  }
}

/**
 * Looks for superblocks where legs ended before they grew, as other legs remember it and this head
 * does not: it has no record, or the leg is no member by it.
 */
async function lookAtOldEnds(views: LegView[], own: VolumeRecord | null): Promise<void> {
  const shown = shownBy(views)
  // Where the legs belong to different volumes, what they say decides nothing.
  const volume = (own ?? shown[0])?.volume
  if (volume === undefined) return
  const records = shown.filter((record) => record.volume === volume)
  for (const [at, one] of views.entries()) {
    if (one.found?.kind !== 'blank') continue
    const ends = records.flatMap(({ members }) =>
      endsOf(members.find(({ name }) => name === one.name)),
    )
    if (ends.length > 0)
      views[at] = await examined(one, one.leg.superblocks.examineAgain(volume, ends))
  }
}

/**
 * When the look fails it is unknown what the leg has: it may be newer than all others, and no
 * volume may be created that would overwrite it.
 */
async function examined(one: LegView, looking: Promise<Found | null>): Promise<LegView> {
  try {
    return { ...one, found: await looking }
  } catch (error) {
    return { ...one, found: null, reason: systemError(error, 'cannot be examined').message }
  }
}

/**
 * Looks through all blank legs for the superblock of a former end that no record mentions. Resolves
 * to true if one of them is not as blank as it seemed.
 */
export async function lookForFormerEnds(volume: Volume, views: LegView[]): Promise<boolean> {
  const blank = views.filter(({ found }) => found?.kind === 'blank')
  const { looking } = volume
  looking.begin(
    blank.reduce((sum, { leg }) => sum + leg.endNow, 0),
    volume.clock,
  )
  volume.wait('looking whether the blank legs have data, or were legs before they grew')
  const found = await Promise.all(blank.map((one) => lookForFormerEnd(volume, one)))
  looking.end()
  for (const each of found) views[views.findIndex(({ leg }) => leg === each.leg)] = each
  for (const [at, one] of withMarks(volume, views, null).entries()) views[at] = one
  return found.some((each) => each.found?.kind !== 'blank')
}

function lookForFormerEnd(volume: Volume, one: LegView): Promise<LegView> {
  const { leg, found } = one
  const look = async (): Promise<Found | null> => {
    const filled = await findFilled(volume, leg)
    volume.looking.filled.set(leg, filled)
    const ends = await formerEnds(leg, filled)
    return ends.length === 0 ? found : leg.superblocks.examineAgain('', ends)
  }
  return examined(one, look())
}
