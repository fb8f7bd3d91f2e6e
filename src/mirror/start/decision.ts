import { isUnwatched } from '../../device/facts.ts'
import type { Leg } from '../leg.ts'
import {
  historyGenerationsMax,
  isPast,
  remembers,
  sameGeneration,
  type Member,
  type VolumeRecord,
} from '../record.ts'
import { formatVersion, showsMark, type Found, type Superblock } from '../superblock.ts'
import { absenceOf, couldTellYet } from './absence.ts'
import { wasNeverServed } from './forks.ts'

/** One leg, as seen when the volume wants to start. */
export interface LegView {
  readonly leg: Leg
  readonly name: string
  /** Null when it could not be examined: `reason` says why. */
  readonly found: Found | null
  readonly reason: string
  /** Whether another head has claimed it after this one did; null when it did not say. */
  readonly hadAnotherHead: boolean | null
  /** A serial that it had for certain. */
  readonly mark: number
}

/** The record in the head's own store. */
export interface OwnRecord {
  readonly record: VolumeRecord
  /**
   * Whether it says who is in sync. Not where another head has claimed legs since: that one may
   * have gone on without any of them.
   */
  readonly vouches: boolean
}

/** The operator's word, if any. */
export interface StartWish {
  /** No absent leg is newer, or it does not matter. */
  readonly force: boolean
  /** The leg to start from when several could be. */
  readonly leg: string | null
}

export type Decision =
  | {
      readonly kind: 'wait'
      readonly reason: string
      readonly refusals: ReadonlyMap<Leg, string>
      /** Whether the legs may soon show something else, unannounced: another head is at work. */
      readonly mayPass?: boolean
    }
  | { readonly kind: 'create' }
  | {
      readonly kind: 'start'
      readonly record: VolumeRecord
      /** Whole, and here. */
      readonly present: readonly Leg[]
      /** Whether only the head's own record says that no absent leg is newer. */
      readonly byOwnRecord: boolean
      /** Whether only the operator says so: then what was acknowledged may be gone. */
      readonly forced: boolean
      readonly refusals: ReadonlyMap<Leg, string>
      /** Of those refused: the ones that went another way. */
      readonly split: readonly Leg[]
      /** Why it may start; for the history. */
      readonly reason: string
    }

type Candidate = {
  leg: Leg
  name: string
  superblock: Superblock
  /** Whether it shows all that it had for certain. */
  complete: boolean
  mark: number
}

/**
 * Whether the volume may start, from which record and with which legs. The newest record counts.
 * If it is the head's own and no other head has been here, no leg can be newer, because the head
 * saves first: one whole leg will do. Otherwise a leg that is in sync by the record could have gone
 * on without the others: all must be here and whole, or the operator says so.
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
  for (const { leg, superblock } of split) refusals.set(leg, splitReason(superblock, newest.record))
  if (split.length > 0 && !newest.vouches && !wish.force) {
    const why = split.map(({ leg, name }) => `${name}: ${refusals.get(leg)!}`)
    return { kind: 'wait', reason: why.join('; '), refusals }
  }
  const decision = decideStart(newest, candidates, views, refusals, wish)
  return decision.kind === 'start' ? { ...decision, split: split.map(({ leg }) => leg) } : decision
}

/**
 * Whether the head saved a generation that it never served, because a newer head took its legs: a
 * leg in sync had to have it before anything was acknowledged, and all of them went on without.
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
 * Whether the head saved a generation that it never served, as far as it knows, and another head
 * has claimed legs since: that one may know nothing of it, and may have gone on with a leg that
 * this record takes for missing, or not in sync yet. What the legs show counts then, as it did for
 * the other head.
 */
function isUnheard(
  { record, vouches }: OwnRecord,
  candidates: readonly Candidate[],
  wish: StartWish,
): boolean {
  if (vouches || wish.force || candidates.length === 0) return false
  return !sameGeneration(record.generation, record.base)
}

/** Leaves out legs that show what was never served, unless that is all there is, or wanted. */
function served(candidates: readonly Candidate[], wish: StartWish): readonly Candidate[] {
  const shown = candidates.map(({ superblock }) => superblock)
  const rest = candidates.filter(
    ({ name, superblock }) => name === wish.leg || !wasNeverServed(superblock.record, shown),
  )
  return rest.length === 0 ? candidates : rest
}

/** The legs whose superblock is to be reckoned with; why the others are not is in `refusals`. */
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

/** Why the leg is not used: it is not where it says it is, or not only there. '' if it is. */
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
 * Whether of all these copies it is the leg, for certain: under its name, on the device that every
 * record has for it, and no other is newer, or on the device that it has for itself.
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
  /** Whether it is the head's own. */
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

/** Whether one is from before all that the other remembers: it may be its past, or not. */
export function tooOldToCompare(older: VolumeRecord, { history }: VolumeRecord): boolean {
  const first = history.at(historyGenerationsMax - 1)
  return first !== undefined && older.generation.counter < first.counter
}

/** Of a leg that diverged, or may have: what is known of that. */
export function splitReason(superblock: Superblock, record: VolumeRecord): string {
  const theirs = superblock.record.generation.counter
  const ours = record.generation.counter
  if (tooOldToCompare(superblock.record, record)) {
    const since = record.history.at(-1)!.counter
    return (
      `its history is too old to compare: it is at generation ${theirs}, the volume at ${ours} ` +
      `remembers those since ${since}; \`dst leg attach --discard\` fills it, whatever it has`
    )
  }
  if (tooOldToCompare(record, superblock.record))
    return (
      `this head's record is too old to compare: it is at generation ${ours}, the leg at ` +
      `${theirs}; if the leg is right, start with \`dst volume start --force --leg\``
    )
  return `split brain: it is at generation ${theirs} of its own, the volume at ${ours}`
}

function decideStart(
  newest: Newest,
  candidates: readonly Candidate[],
  views: readonly LegView[],
  refusals: ReadonlyMap<Leg, string>,
  wish: StartWish,
): Decision {
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
  // Copies of legs that are gone may be older; of those that are there, the original counts.
  if (present.length === 0 && (allSeen || wish.force)) {
    present = moved
    for (const { name } of moved) away.delete(name)
  }
  // Who has less than it had may have had more than these, but of a volume that never served.
  const hadMore = present.length > 0 && record.history.length > 0
  const awaited = [...away.values(), ...(hadMore ? putBack.keys() : [])]
  // Another head may have had these, and have gone on with a leg that would tell of it.
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
  const reason = `waiting for ${waits}, which ${what}${older}`
  return { kind: 'wait', reason, refusals, mayPass: putBack.size > 0 }
}

/** Why a leg that is here, and in sync by the record, has not what the record stands for. */
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

/** Whether a leg in sync by the record has all that the record stands for. */
function isWhole(superblock: Superblock, record: VolumeRecord): boolean {
  const { generation } = superblock.record
  return generation.counter >= record.base.counter && isPastOrSame(generation, record)
}

function isPastOrSame(generation: VolumeRecord['generation'], record: VolumeRecord): boolean {
  return sameGeneration(generation, record.generation) || remembers(record, generation)
}

/** What the operator's word starts from when no leg in sync is here: the newest consistent leg. */
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
    // It may have been detached: of a leg in sync nothing is left of when it was not.
    if (member.id === stale.superblock.self)
      Object.assign(member, { state: 'in-sync', left: null, label: null, stamp: null })
    else if (member.state === 'in-sync') member.state = 'missing'
  }
  const reason = `forced, from ${stale.name} at generation ${counter}`
  const start = { record, present: [stale.leg], byOwnRecord: false, forced: true, refusals }
  return { kind: 'start', ...start, split: [], reason }
}
