import {
  differencesMax,
  namesMax,
  type KnownDifference,
  type Member,
  type Verified,
  type VolumeRecord,
} from '../record.ts'

/** What verifies have left in the record; adds an empty entry where the record has none. */
export function verifiedOf(record: VolumeRecord): Verified {
  record.verified ??= { completedAt: null, countedFrom: 0, position: 0, differences: [] }
  return record.verified
}

/**
 * Notes that a verify reached the end of the volume or was given up. The next is due counting from
 * `now`, wall time in milliseconds.
 */
export function noteEnd(record: VolumeRecord, now: number, how: 'complete' | 'given up'): void {
  const verified = verifiedOf(record)
  if (how === 'complete') verified.completedAt = now
  verified.position = 0
  verified.countedFrom = now
}

/** Notes the byte from which a scheduled verify goes on if it is interrupted. */
export function notePosition(record: VolumeRecord, position: number): void {
  verifiedOf(record).position = position
}

/**
 * Counts from `now` (wall time, milliseconds) until the next verify, unless an earlier time is
 * noted. Returns true if the record changed.
 */
export function countFromNow(record: VolumeRecord, now: number): boolean {
  const verified = verifiedOf(record)
  // The time noted is later where the clock was set back since.
  const begins = verified.countedFrom === 0 || verified.countedFrom > now
  if (begins) verified.countedFrom = now
  return begins
}

/** Notes what differs in a range that was compared. */
export function noteCompared(
  record: VolumeRecord,
  range: ComparedRange,
  found: readonly KnownDifference[],
): void {
  const verified = verifiedOf(record)
  verified.differences = afterComparing(verified.differences, range, found)
}

/** Notes that a leg was copied whole, which ends the differences that a verify found on it. */
export function noteCopied(record: VolumeRecord, member: Member): void {
  delete member.whole
  const verified = verifiedOf(record)
  const others = record.members.filter((one) => one !== member).map(({ name }) => name)
  verified.differences = afterCopying(verified.differences, member.name, others)
}

/**
 * A range that was compared, in bytes, and the names of the legs; null when it was repaired, so
 * that nothing can differ in it.
 */
export interface ComparedRange {
  readonly from: number
  readonly to: number
  readonly legs: readonly string[] | null
}

/** The known differences after a range was compared and `found` differs in it. */
export function afterComparing(
  known: readonly KnownDifference[],
  range: ComparedRange,
  found: readonly KnownDifference[],
): readonly KnownDifference[] {
  const outside = known.flatMap((one) => without(one, range))
  // A comparison without a leg changes nothing that is known of it.
  const { legs } = range
  const unseen = known
    .filter(({ groups }) => legs !== null && groups.flat().some((name) => !legs.includes(name)))
    .flatMap((one) => part(one, Math.max(one.from, range.from), Math.min(one.to, range.to)))
  let rest = found
  for (const one of unseen) rest = rest.flatMap((other) => without(other, one))
  const all = [...outside, ...unseen, ...rest]
  return limited(all.toSorted((one, other) => one.from - other.from))
}

type Bytes = Pick<KnownDifference, 'from' | 'to'>

/** The parts of the difference before and after the range. */
function without(one: KnownDifference, range: Bytes): KnownDifference[] {
  return [
    ...part(one, one.from, Math.min(one.to, range.from)),
    ...part(one, Math.max(one.from, range.to), one.to),
  ]
}

function part(one: KnownDifference, from: number, to: number): KnownDifference[] {
  return from >= to ? [] : [{ ...one, from, to, bytes: Math.min(one.bytes, to - from) }]
}

function limited(ranges: KnownDifference[]): readonly KnownDifference[] {
  const names = Math.max(2, ...ranges.map(({ groups }) => groups.flat().length))
  const most = Math.max(1, Math.min(differencesMax, Math.floor(namesMax / names)))
  while (ranges.length > most) {
    let nearest = 1
    for (let at = 2; at < ranges.length; at++)
      if (gapBefore(ranges, at) < gapBefore(ranges, nearest)) nearest = at
    const [one, other] = ranges.splice(nearest - 1, 2) as [KnownDifference, KnownDifference]
    ranges.splice(nearest - 1, 0, together(one, other))
  }
  return ranges
}

function gapBefore(ranges: readonly KnownDifference[], at: number): number {
  return ranges[at]!.from - ranges[at - 1]!.to
}

function together(one: KnownDifference, other: KnownDifference): KnownDifference {
  const { from } = one
  const to = Math.max(one.to, other.to)
  const bytes = Math.min(one.bytes + other.bytes, to - from)
  if (JSON.stringify(one.groups) === JSON.stringify(other.groups))
    return { from, to, bytes, groups: one.groups }
  // The groups of the two disagree: take no leg for equal to another.
  const names = new Set([...one.groups.flat(), ...other.groups.flat()])
  return { from, to, bytes, groups: [...names].map((name) => [name]) }
}

/**
 * The known differences after a leg was copied whole from others. It is unknown from which: only
 * where all of these have the same bytes does it have them too. Differences on which all legs now
 * agree are dropped.
 */
export function afterCopying(
  known: readonly KnownDifference[],
  copied: string,
  legs: readonly string[],
): readonly KnownDifference[] {
  const changed = known.map((one): KnownDifference => {
    const others = withoutLeg(one.groups, copied)
    const certain = others.length === 1 && legs.every((leg) => isIn(one.groups, leg))
    return { ...one, groups: certain ? [[...others[0]!, copied]] : [...others, [copied]] }
  })
  return standing(changed)
}

function isIn(groups: KnownDifference['groups'], leg: string): boolean {
  return groups.some((group) => group.includes(leg))
}

/** Forgets what is known of legs that are not members. */
export function keepMembers({ verified, members }: VolumeRecord): void {
  if (verified === undefined) return
  const names = new Set(members.map(({ name }) => name))
  const known = new Set(verified.differences.flatMap(({ groups }) => groups.flat()))
  for (const name of known) if (!names.has(name)) forgetLeg(verified, name)
}

/** Forgets what is known of a leg, which is no longer a member. */
export function forgetLeg(verified: Verified, leg: string): void {
  const rest = verified.differences.map((one) => ({ ...one, groups: withoutLeg(one.groups, leg) }))
  verified.differences = standing(rest)
}

function withoutLeg(
  groups: KnownDifference['groups'],
  leg: string,
): readonly (readonly string[])[] {
  return groups
    .map((group) => group.filter((name) => name !== leg))
    .filter(({ length }) => length > 0)
}

function standing(known: readonly KnownDifference[]): readonly KnownDifference[] {
  return known.filter(({ groups }) => groups.length > 1)
}

/** A sentence with the bytes in which legs differ, '' if none are known. */
export function describeDifferences({ verified }: VolumeRecord): string {
  const known = verified?.differences ?? []
  const [first] = known
  if (first === undefined) return ''
  const bytes = known.reduce((sum, one) => sum + one.bytes, 0)
  const names = [...new Set(known.flatMap(({ groups }) => groups.flat()))].join(' and ')
  const more = known.length === 1 ? '' : `, in ${known.length} places, the first`
  return `${names} differ in ${bytes} bytes${more} at ${first.from}`
}
