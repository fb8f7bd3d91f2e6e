import {
  differencesMax,
  namesMax,
  type KnownDifference,
  type Member,
  type Verified,
  type VolumeRecord,
} from '../record.ts'

export function verifiedOf(record: VolumeRecord): Verified {
  record.verified ??= { completedAt: null, countedFrom: 0, position: 0, differences: [] }
  return record.verified
}

/** A verify came to the end of the volume, or is not to go on: the next is counted from now. */
export function noteEnd(record: VolumeRecord, now: number, how: 'complete' | 'given up'): void {
  const verified = verifiedOf(record)
  if (how === 'complete') verified.completedAt = now
  verified.position = 0
  verified.countedFrom = now
}

/** A scheduled verify is to go on from here, if it is interrupted. */
export function notePosition(record: VolumeRecord, position: number): void {
  verifiedOf(record).position = position
}

/** Whether the next verify is counted from now on: it was from nowhere, or from later. */
export function countFromNow(record: VolumeRecord, now: number): boolean {
  const verified = verifiedOf(record)
  // Also where the clock was set back since.
  const begins = verified.countedFrom === 0 || verified.countedFrom > now
  if (begins) verified.countedFrom = now
  return begins
}

/** A range was compared, and this is what differs in it now. */
export function noteCompared(
  record: VolumeRecord,
  range: ComparedRange,
  found: readonly KnownDifference[],
): void {
  const verified = verifiedOf(record)
  verified.differences = afterComparing(verified.differences, range, found)
}

/** What a verify found different is so no more on a leg that was copied whole. */
export function noteCopied(record: VolumeRecord, member: Member): void {
  delete member.whole
  const verified = verifiedOf(record)
  const others = record.members.filter((one) => one !== member).map(({ name }) => name)
  verified.differences = afterCopying(verified.differences, member.name, others)
}

/** What was compared: bytes, and the names of the legs; null where nothing can differ any more. */
export interface ComparedRange {
  readonly from: number
  readonly to: number
  readonly legs: readonly string[] | null
}

/** What is known once the range was compared, with what was found different in it. */
export function afterComparing(
  known: readonly KnownDifference[],
  range: ComparedRange,
  found: readonly KnownDifference[],
): readonly KnownDifference[] {
  const outside = known.flatMap((one) => without(one, range))
  // Of a leg that is away the others know nothing.
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

/** What of the difference lies before and after the range. */
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
  // Nothing is the same in both: nobody is taken for equal to another.
  const names = new Set([...one.groups.flat(), ...other.groups.flat()])
  return { from, to, bytes, groups: [...names].map((name) => [name]) }
}

/**
 * What is known once a leg was copied whole from others, which of them nobody knows: where these
 * have the same bytes it has them too. What all legs agree on by now is mended.
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

/** Forgets what is known of legs that the volume has no more. */
export function keepMembers({ verified, members }: VolumeRecord): void {
  if (verified === undefined) return
  const names = new Set(members.map(({ name }) => name))
  const known = new Set(verified.differences.flatMap(({ groups }) => groups.flat()))
  for (const name of known) if (!names.has(name)) forgetLeg(verified, name)
}

/** Forgets what is known of a leg that is none any more. */
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
