import { isUnwatched } from '../../device/facts.ts'
import type { Leg } from '../leg.ts'
import { isPast, remembers, sameGeneration, type Member, type VolumeRecord } from '../record.ts'
import { formatVersion, showsMark, type Found, type Superblock } from '../superblock.ts'
import { absenceOf, couldTellYet } from './absence.ts'
import { splitReason, wasNeverServed } from './forks.ts'

/** One leg, as seen when the volume wants to start. */
export interface LegView {
  readonly leg: Leg
  readonly name: string
  /** Null when it could not be examined: `reason` says why. */
  readonly found: Found | null
  readonly reason: string
  /** Whether another head has claimed the leg after this one did; null when the leg did not say. */
  readonly hadAnotherHead: boolean | null
  /** A serial that the leg had for certain. */
  readonly mark: number
}

/** The record in the head's own store. */
export interface OwnRecord {
  readonly record: VolumeRecord
  /**
   * Whether the record says which legs are in sync. It does not where another head has claimed legs
   * since, which may have gone on without any of them.
   */
  readonly vouches: boolean
}

/** What the operator asks for. */
export interface StartWish {
  /**
   * Start although absent legs may be newer: the operator knows that none is, or accepts the loss.
   */
  readonly force: boolean
  /** The leg to start from when several could be. */
  readonly leg: string | null
}

export type Decision =
  | { readonly kind: 'wait'; readonly reason: string; readonly refusals: ReadonlyMap<Leg, string> }
  | { readonly kind: 'create' }
  | {
      readonly kind: 'start'
      readonly record: VolumeRecord
      /** Legs that are here and whole. */
      readonly present: readonly Leg[]
      /** Whether only the head's own record says that no absent leg is newer. */
      readonly byOwnRecord: boolean
      /** Whether only the operator says so; then acknowledged writes may be gone. */
      readonly forced: boolean
      readonly refusals: ReadonlyMap<Leg, string>
      /** Refused legs that went another way. */
      readonly split: readonly Leg[]
      /** Why it may start; for the history. */
      readonly reason: string
    }

type Candidate = {
  leg: Leg
  name: string
  superblock: Superblock
  /** Whether the leg shows all that it had for certain. */
  complete: boolean
  mark: number
}

/**
 * Decides whether the volume may start, from which record and with which legs. The newest record
 * counts. If it is the head's own and no other head has been here, no leg can be newer, because the
 * head saves first: one whole leg will do. Otherwise a leg that is in sync by the record could have
 * gone on without the others: all must be here and whole, or the operator says otherwise.
 */
export function decide(
  known: OwnRecord | null,
  views: readonly LegView[],
  wish: StartWish,
): Decision {
  const own = known?.record ?? null
  const refusals = new Map<Leg, string>()
  const candidates = served(readable(own, views, refusals), wish)
  if (own !== null && (neverServed(own, candidates) || isUnheard(known!, candidates, wish)))
    return decide(null, views, wish)
  if (candidates.length === 0 && own === null) return decideNew(views, refusals, wish)
  const volumes = new Set(candidates.map(({ superblock }) => superblock.record.volume))
  if (volumes.size > 1) {
    const which = candidates.map(({ name, superblock }) => `${name}: ${superblock.record.volume}`)
    return { kind: 'wait', reason: `legs of different volumes (${which.join(', ')})`, refusals }
  }
  const newest = newestRecord(known, candidates, wish)
  const split = candidates.filter(({ superblock }) => diverged(superblock.record, newest.record))
  for (const { leg, superblock } of split)
    refusals.set(leg, splitReason(superblock.record, newest.record))
  if (split.length > 0 && !newest.vouches && !wish.force) {
    const why = split.map(({ leg, name }) => `${name}: ${refusals.get(leg)!}`)
    return { kind: 'wait', reason: why.join('; '), refusals }
  }
  const decision = decideStart({ newest, candidates, views, refusals }, wish)
  return decision.kind === 'start' ? { ...decision, split: split.map(({ leg }) => leg) } : decision
}

/**
 * Whether the head saved a generation that it never served, because a newer head took its legs.
 * Every leg in sync had to have that generation before anything was acknowledged in it, and all of
 * them went on without.
 */
function neverServed(own: VolumeRecord, candidates: readonly Candidate[]): boolean {
  const inSync = own.members.filter(({ state }) => state === 'in-sync')
  if (inSync.length === 0 || sameGeneration(own.generation, own.base)) return false
  return inSync.every(({ id }) => {
    const record = candidates.find(({ superblock }) => superblock.self === id)?.superblock.record
    return (
      record !== undefined &&
      record.generation.counter >= own.generation.counter &&
      !sameGeneration(record.generation, own.generation) &&
      !remembers(record, own.generation) &&
      remembers(record, own.base)
    )
  })
}

/**
 * Whether the head saved a generation that, as far as it knows, it never served, and another head
 * has claimed legs since. That head may know nothing of the generation, and may have gone on with a
 * leg that this record calls missing, or not in sync yet. What the legs show counts then, as it did
 * for that head.
 */
function isUnheard(
  { record, vouches }: OwnRecord,
  candidates: readonly Candidate[],
  wish: StartWish,
): boolean {
  if (vouches || wish.force || candidates.length === 0) return false
  return !sameGeneration(record.generation, record.base)
}

/**
 * Leaves out legs that show a generation that was never served, unless no others are there, or the
 * operator names them.
 */
function served(candidates: readonly Candidate[], wish: StartWish): readonly Candidate[] {
  const shown = candidates.map(({ superblock }) => superblock)
  const rest = candidates.filter(
    ({ name, superblock }) => name === wish.leg || !wasNeverServed(superblock.record, shown),
  )
  return rest.length === 0 ? candidates : rest
}

/** The legs whose superblocks count. `refusals` gets the reasons why others do not. */
function readable(
  own: VolumeRecord | null,
  views: readonly LegView[],
  refusals: Map<Leg, string>,
): Candidate[] {
  const candidates: Candidate[] = []
  for (const { leg, name, found, mark } of views) {
    if (found === null || found.kind === 'blank') continue
    if (found.kind !== 'superblock') refusals.set(leg, refusalOf(found))
    else if (own !== null && found.superblock.record.volume !== own.volume)
      refusals.set(leg, `it belongs to another volume, ${found.superblock.record.volume}`)
    else
      candidates.push({
        leg,
        name,
        superblock: found.superblock,
        mark,
        complete: showsMark(found, mark),
      })
  }
  return candidates.filter((one) => {
    const reason = misplaced(own, one, candidates)
    if (reason !== '') refusals.set(one.leg, reason)
    return reason === ''
  })
}

/**
 * Why the leg is not used: its superblock names another leg, or is on several devices. '' if it is
 * used.
 */
function misplaced(
  own: VolumeRecord | null,
  one: Candidate,
  candidates: readonly Candidate[],
): string {
  const { self, record } = one.superblock
  const { name } = record.members.find(({ id }) => id === self)!
  const copies = candidates.filter(({ superblock }) => superblock.self === self)
  if (copies.length === 1)
    return name === one.name ? '' : `it is the volume's leg ${name}, configured as ${one.name}`
  const original = copies.find((each) => isOriginal(own, each, copies))
  if (original === one) return ''
  if (original === undefined) {
    const others = copies.filter((each) => each !== one).map((each) => each.name)
    return `it is a copy of ${others.join(', ')}, and which is the original nobody knows`
  }
  return isAt(one, original.leg.device.facts?.identity)
    ? `it is leg ${name}, which is configured twice`
    : `it is a copy of leg ${name}, which is there itself`
}

/**
 * Whether this copy is certainly the leg: it is under its name, on the device that every record has
 * for it; and no other copy is newer, or on the device that the copy itself names.
 */
function isOriginal(
  own: VolumeRecord | null,
  one: Candidate,
  copies: readonly Candidate[],
): boolean {
  const { superblock, name } = one
  const known = own === null ? [superblock.record] : [own, superblock.record]
  const inPlace = known.every(({ members }) => {
    const member = members.find(({ id }) => id === superblock.self)
    return member?.name === name && isAt(one, member.identity)
  })
  const { identity } = one.leg.device.facts!
  return (
    inPlace &&
    copies.every((other) => {
      const { serial, self, record } = other.superblock
      const member = record.members.find(({ id }) => id === self)!
      const same = isAt(other, identity)
      return serial <= superblock.serial && (same || !isAt(other, member.identity))
    })
  )
}

function isAt({ leg }: Candidate, identity: string | undefined): boolean {
  return leg.device.facts?.identity === identity
}

/** Why the superblock cannot be used: it is of another version, or damaged; '' otherwise. */
export function refusalOf(found: Found): string {
  if (found.kind === 'foreign') {
    const which = found.version > formatVersion ? 'a newer' : 'an older'
    return `its superblock is of ${which} version, ${found.version}`
  }
  return found.kind === 'damaged' ? found.reason : ''
}

function decideNew(
  views: readonly LegView[],
  refusals: ReadonlyMap<Leg, string>,
  wish: StartWish,
): Decision {
  const absent = views.filter(({ found }) => found === null)
  if (refusals.size === 0 && (absent.length === 0 || (wish.force && absent.length < views.length)))
    return { kind: 'create' }
  const waits = absent.map(({ name, reason }) => `${name} (${reason})`)
  for (const [leg, reason] of refusals) waits.push(`${leg.name} (${reason})`)
  const reason = `a new volume is created when every leg is there: waiting for ${waits.join(', ')}`
  return { kind: 'wait', reason, refusals }
}

interface Newest {
  readonly record: VolumeRecord
  /** Whether the record is the head's own. */
  readonly own: boolean
  readonly vouches: boolean
}

function newestRecord(
  own: OwnRecord | null,
  candidates: readonly Candidate[],
  wish: StartWish,
): Newest {
  if (wish.leg !== null) {
    const named = candidates.find(({ name }) => name === wish.leg)
    if (named !== undefined && wish.force) return ofLeg(named)
  }
  let newest: Newest | null = own === null ? null : { ...own, own: true }
  for (const candidate of candidates) {
    const { record } = candidate.superblock
    const newer =
      newest === null ||
      (record.generation.counter > newest.record.generation.counter &&
        (own === null || isPast(own.record, record)))
    if (newer) newest = ofLeg(candidate)
  }
  return newest!
}

function ofLeg({ superblock }: Candidate): Newest {
  return { record: superblock.record, own: false, vouches: false }
}

/**
 * Whether the leg's volume went another way than the record's, or may have: neither is known to be
 * the other's past.
 */
function diverged(leg: VolumeRecord, record: VolumeRecord): boolean {
  return !sameGeneration(leg.generation, record.generation) && !isPast(leg, record)
}

interface Evidence {
  readonly newest: Newest
  readonly candidates: readonly Candidate[]
  readonly views: readonly LegView[]
  readonly refusals: ReadonlyMap<Leg, string>
}

function decideStart({ newest, candidates, views, refusals }: Evidence, wish: StartWish): Decision {
  const { record } = newest
  let present: Leg[] = []
  const moved: Leg[] = []
  const away = new Map<string, string>()
  const putBack = new Map<string, string>()
  let couldTell = false
  let allSeen = true
  for (const member of record.members) {
    const { name, state } = member
    if (state !== 'in-sync') continue
    const view = views.find((one) => one.name === name)
    const found = candidates.find(({ superblock }) => superblock.self === member.id)
    const hasAll = found?.complete === true && isWhole(found.superblock, record)
    const absence = absenceOf(view, member, refusals)
    if (hasAll && absence === null) {
      present.push(found.leg)
      continue
    }
    couldTell ||= view !== undefined && couldTellYet(view, member)
    allSeen &&= view !== undefined && view.found !== null && !refusals.has(view.leg)
    if (hasAll && !refusals.has(found.leg)) moved.push(found.leg)
    if (absence !== null) away.set(name, `${name} (${absence})`)
    else putBack.set(name, putBackReason(member, found, record))
  }
  // A copy of a leg that is gone may be older than it was; of a leg that is there, the original
  // counts.
  if (present.length === 0 && (allSeen || wish.force)) {
    present = moved
    for (const { name } of moved) away.delete(name)
  }
  // A leg that shows less than it had may have had more than these, unless the volume never served.
  const hadMore = present.length > 0 && record.history.length > 0
  const awaited = [...away.values(), ...(hadMore ? putBack.keys() : [])]
  // Another head may have had these legs, and have gone on with a leg that would tell of it.
  const isUntold = couldTell && present.every(({ device }) => isUnwatched(device))
  const vouches = newest.vouches && !isUntold
  const enough = vouches || awaited.length === 0 || wish.force
  if (present.length > 0 && enough) {
    const reason = vouches
      ? "by the head's own record"
      : awaited.length === 0
        ? 'no absent leg could be newer'
        : `forced, without ${awaited.join(', ')}`
    const byOwnRecord = vouches && !wish.force
    const forced = wish.force && (!vouches || present === moved)
    const start = { record: structuredClone(record), present, byOwnRecord, forced, refusals }
    return { kind: 'start', ...start, split: [], reason }
  }
  if (wish.force) {
    const stale = bestStale(candidates, wish)
    if (stale !== null) return forced(stale, refusals)
  }
  const doubted = newest.own && !vouches
  const names = present.map(({ name }) => name).join(', ')
  const untold = newest.vouches ? `, which ${names} cannot tell` : ''
  const since = doubted ? `, because another head may have had the legs since${untold}` : ''
  const what = present.length > 0 ? `could be newer${since}` : 'has the data'
  const waits = awaited.length > 0 ? awaited.join(', ') : 'a leg in sync, but none is left'
  const older = [...putBack.values()].map((reason) => `; ${reason}`).join('')
  return { kind: 'wait', reason: `waiting for ${waits}, which ${what}${older}`, refusals }
}

/** Why a leg that is here, and in sync by the record, does not have what the record stands for. */
function putBackReason(
  { name }: Member,
  found: Candidate | undefined,
  record: VolumeRecord,
): string {
  if (found === undefined) return `${name} is blank`
  const { superblock, mark } = found
  const { counter } = superblock.record.generation
  const older = isWhole(superblock, record)
    ? `superblock ${superblock.serial}, and had ${mark}`
    : `generation ${counter}, and had ${record.base.counter}`
  return `${name} was put back to an older state: it shows ${older}`
}

/** Whether the leg has all that the record stands for. */
function isWhole(superblock: Superblock, record: VolumeRecord): boolean {
  const { generation } = superblock.record
  return generation.counter >= record.base.counter && isPastOrSame(generation, record)
}

function isPastOrSame(generation: VolumeRecord['generation'], record: VolumeRecord): boolean {
  return sameGeneration(generation, record.generation) || remembers(record, generation)
}

/** The newest consistent leg, from which a forced start goes on when no leg in sync is here. */
function bestStale(candidates: readonly Candidate[], wish: StartWish): Candidate | null {
  let best: Candidate | null = null
  for (const candidate of candidates) {
    const { superblock, name } = candidate
    const { state } = superblock.record.members.find(({ id }) => id === superblock.self)!
    if (state !== 'in-sync' && state !== 'detached') continue
    if (wish.leg !== null && wish.leg !== name) continue
    const { counter } = superblock.record.generation
    if (best === null || counter > best.superblock.record.generation.counter) best = candidate
  }
  return best
}

function forced(stale: Candidate, refusals: ReadonlyMap<Leg, string>): Decision {
  const record = structuredClone(stale.superblock.record)
  const counter = record.generation.counter
  for (const member of record.members) {
    // The leg may have been detached; one in sync keeps nothing of the time when it was not.
    if (member.id === stale.superblock.self)
      Object.assign(member, { state: 'in-sync', left: null, label: null, stamp: null })
    else if (member.state === 'in-sync') member.state = 'missing'
  }
  const reason = `forced, from ${stale.name} at generation ${counter}`
  const start = { record, present: [stale.leg], byOwnRecord: false, forced: true, refusals }
  return { kind: 'start', ...start, split: [], reason }
}
