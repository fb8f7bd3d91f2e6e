import type { Bitmap } from '../../base/bitmap.ts'
import { StorageError, systemError } from '../../base/errors.ts'
import { claimedOf, restartsOf } from '../../device/facts.ts'
import { keepMembers } from '../data/differences.ts'
import { closed } from '../closing.ts'
import { fencing, isFenced, legChanged, noteSince } from '../departure.ts'
import { finishGrowth } from '../growth.ts'
import type { Leg } from '../leg.ts'
import { failParkedChanges } from '../losses.ts'
import { counterBelieved, sameGeneration, type VolumeRecord } from '../record.ts'
import { claimedByOthers } from '../returning.ts'
import { chooseSource, settleMembers, type Present } from '../rules/choosing.ts'
import { rules } from '../rules/table.ts'
import { showsMark } from '../superblock.ts'
import type { Volume } from '../volume.ts'
import { absenceOf } from './absence.ts'
import {
  claimedBefore,
  claimMore,
  doubt,
  hadAnotherHead,
  makeClaim,
  raiseNumber,
  type GivenUp,
} from './claims.ts'
import { addMember, createRecord } from './create.ts'
import { loadDirtyMaps, readMaps } from './maps.ts'
import { loadMemory, loadOwn } from './own-files.ts'
import { decide, type Decision, type LegView, type StartWish } from './decision.ts'
import { learnMarks, lookForFormerEnds, survey, type Survey } from './survey.ts'

type Start = Extract<Decision, { kind: 'start' }>

/**
 * Looks at the legs that are there and starts the volume, if that is safe now. Otherwise the volume
 * keeps waiting, with a reason.
 */
export async function tryStart(volume: Volume, wish: StartWish): Promise<void> {
  if (volume.word !== 'waiting' && volume.word !== 'suspended') return
  const { epoch } = volume
  const forgotten = await loadMemory(volume)
  if (volume.epoch !== epoch) return
  // An operator's word holds for all starts of this process.
  if (forgotten !== '' && !wish.force && !volume.ran) {
    stayWaiting(volume, forgotten)
    volume.tries.later()
    return
  }
  const found = await survey(volume)
  const { own, views } = found
  let { kept } = found
  let decision = decide(own, views, wish)
  const looksLong = decision.kind === 'create'
  if (looksLong && (await lookForFormerEnds(volume, views))) decision = decide(own, views, wish)
  if (decision.kind === 'create') {
    kept = await loadOwn(volume)
    // By the operator's word a lost record is given up, but not one that can be read.
    if (kept.value !== null || (kept.lost && !wish.force))
      decision = { kind: 'wait', reason: lostRecord, refusals: new Map() }
  }
  const anotherServes = volume.tries.anotherServes(views)
  if (decision.kind === 'start' && anotherServes && !wish.force && mayBeServed(decision))
    decision = { kind: 'wait', reason: servedByAnother(volume), refusals: decision.refusals }
  if (volume.epoch !== epoch) return
  const taken = volume.legs.find((leg) => isFenced(leg) && servedLast(leg))
  if (taken !== undefined) {
    await replaced(volume, epoch, fencing(taken))
    return
  }
  const unread = [forgotten, kept.unread].filter(Boolean).join('; ')
  if (unread !== '' && decision.kind !== 'wait')
    volume.log.error({ volume: volume.path }, `${volume.path} starts without: ${unread}`)
  for (const { leg, found, mark } of views) if (found !== null) leg.superblocks.note(found, mark)
  if (decision.kind === 'create') await create(volume, found)
  else if (decision.kind === 'start') {
    const { record } = decision
    if (wish.force) record.forcedAt = record.generation
    await begin(volume, { start: decision, found, force: wish.force })
  } else {
    for (const [leg, reason] of decision.refusals) leg.refuse(reason)
    stayWaiting(volume, [decision.reason, unread].filter(Boolean).join('; '))
  }
  // Nothing tells when these can be read, or are changed by another head: try again later.
  const isSeen = views.some(({ found }) => found !== null)
  // Long looks are not repeated: they read whole disks, and commands wait for them.
  const mayPass = decision.kind === 'wait' && isSeen && !looksLong
  const isUnread = ({ leg, found }: LegView): boolean => found === null && leg.device.usable
  const isThere = own === null && kept.value !== null
  const again = unread !== '' || isThere || views.some(isUnread)
  if (!volume.running && (again || mayPass)) volume.tries.later(again ? 'short' : 'longer')
}

/**
 * Whether another head, which has had the legs while this one waited, may serve from them. One that
 * has just lost a leg may do so from those that are left, and is not to be stopped, or doubled.
 */
function mayBeServed({ record, byOwnRecord }: Start): boolean {
  const last = record.entries.findLast(({ kind }) => kind === 'start')
  return !byOwnRecord && last?.text !== closed
}

function servedByAnother({ path }: Volume): string {
  return (
    'another head has had the legs since this one waits, and has not closed the volume: it may ' +
    `serve; if it does not, \`dst volume start ${path}\` starts this one`
  )
}

const lostRecord =
  "this head's record cannot be read, so the volume was made before, and its legs are blank: are " +
  'they the right ones? `dst volume start --force` makes a new one of them'

/** Whether the leg took part when the volume last ran: then a newer head of this volume took it. */
function servedLast({ member }: Leg): boolean {
  return member?.state === 'in-sync' || member?.state === 'syncing'
}

async function create(volume: Volume, found: Survey): Promise<void> {
  const { epoch } = volume
  const { views } = found
  volume.tries.beginAnew()
  try {
    // Claim before anything is written: a leg that another head has claimed would refuse the
    // writes.
    const here = views.filter(({ found }) => found !== null)
    const needed = here.map(({ leg }) => leg)
    await claimAll(volume, needed, here, 'outdo')
    await volume.head.keepClaims(volume)
    const start = await createRecord(volume, views)
    if (volume.epoch === epoch) await begin(volume, { start, found, force: true })
  } catch (error) {
    if (await replaced(volume, epoch, error)) return
    stayWaiting(volume, `the volume cannot be created: ${systemError(error, '').message}`)
    if (error instanceof StorageError && error.code !== 'CONFIG') volume.tries.later()
  }
}

/** Keeps the volume waiting, and logs a new reason: an operator may have to act. */
function stayWaiting(volume: Volume, reason: string): void {
  const { path, log } = volume
  if (volume.reason !== reason) log.warn({ volume: path, reason }, `${path} waits: ${reason}`)
  volume.wait(reason)
}

interface Beginning {
  readonly start: Start
  readonly found: Survey
  /** Whether legs that may have more, and claims given up by other heads, do not matter. */
  readonly force: boolean
}

/** Starts from a record: makes durable which legs are in sync before anything is served. */
async function begin(volume: Volume, { start, found, force }: Beginning): Promise<void> {
  volume.tries.beginAnew()
  const { epoch } = volume
  const { views } = found
  const { record, present, refusals } = start
  // Legs that went another way are judged again when the volume runs and can tell what would be
  // lost.
  for (const { leg } of views)
    leg.refuse((start.split.includes(leg) ? undefined : refusals.get(leg)) ?? '')
  // A volume that was just made gets a new generation as well: its first run is one, see
  // `leftAtStart`.
  volume.head.startAbove(highestCounter(volume, record, found))
  try {
    if (!goesByOwn(record, found)) await volume.above.lose(volume)
    const given = force ? 'outdo' : 'respect'
    const another = await claimAll(volume, present, claimable(record, views), given)
    if (another) await doubtOwnRecord(volume, start)
    await volume.head.keepClaims(volume)
    await mustBeAsSeen(views.filter(({ leg }) => present.includes(leg)))
    complete(volume, record, views)
    const maps = await readMaps(record, present)
    if (volume.epoch !== epoch) return
    // From here to `run` in one turn of the loop, or a leg could be seen in sync that is about to
    // be set to missing.
    bind(volume, record, views)
    const { intents } = maps
    loadDirtyMaps(volume, present, maps)
    const here = present.map(seen)
    const certain = force || intents.count === 0
    const holders = certain ? [] : holdersOfWhatWasLost(start, views, here)
    if (holders.length > 0) {
      const what = 'with what was lost where power was lost'
      stayWaiting(volume, `waiting for ${holders.join(', ')}, ${what}`)
      return
    }
    for (const leg of present) leg.superblocks.mustBeSameDevice()
    const before = namesInSync(record)
    choosePresent(volume, start, here, intents)
    // One generation is enough for all attempts to start with the same legs.
    const { counter } = record.generation
    const again = counter > volume.head.counterFloor && before === namesInSync(record)
    await run(volume, start, intents, again ? 'record' : 'members')
  } catch (error) {
    if ((await replaced(volume, epoch, error)) || volume.epoch !== epoch) return
    volume.retreat(systemError(error, 'starting').message)
    volume.tries.later()
  }
}

/**
 * Whether no other head can have had the legs that the volume starts from: by this head's own
 * record, or because no leg has a record.
 */
function goesByOwn(record: VolumeRecord, { own, views }: Survey): boolean {
  if (own === null) return views.every(({ found }) => found?.kind !== 'superblock')
  return own.vouches && sameGeneration(own.record.generation, record.generation)
}

/** Stops this head if the error says that another one has the legs. Resolves to whether it does. */
async function replaced(volume: Volume, epoch: number, error: unknown): Promise<boolean> {
  const failure = systemError(error, 'starting')
  if (failure.code !== 'FENCED') return false
  if (!volume.ran) await raiseNumber(volume)
  if (volume.epoch === epoch) volume.halt('failed', 'a newer head has taken over', failure)
  return true
}

/**
 * The highest counter of all generations known here. The one of the head's own record counts even
 * where the head does not go by that record: requests left under way by an earlier process may yet
 * bring it to a leg, and of two generations with one counter neither is newer. The generation of an
 * earlier attempt in this process does not count: it is as high as what this head claimed for it,
 * and a leg that may yet get it does not count as there (`Leg.want`).
 */
function highestCounter(
  { unserved }: Volume,
  { generation }: VolumeRecord,
  { own, views }: Survey,
): number {
  const known = views.flatMap(({ found }) =>
    found?.kind === 'superblock' ? [found.superblock.record.generation] : [],
  )
  if (own !== null) known.push(own.record.generation)
  const believed = known.filter(({ counter }) => counter <= counterBelieved)
  const counted = [generation, ...believed].filter(({ id }) => id !== unserved)
  return Math.max(0, ...counted.map(({ counter }) => counter))
}

/**
 * Keeps the history entries that were added after the record was last saved, before the run ended.
 */
function keepHistory({ record: before }: Volume, record: VolumeRecord): void {
  if (before?.volume !== record.volume) return
  const last = (entries: VolumeRecord['entries']): number => entries.at(-1)?.number ?? 0
  if (last(before.entries) > last(record.entries)) record.entries = before.entries
}

/** Legs to claim: those of this volume that are there, and blank ones; detached ones are free. */
function claimable(record: VolumeRecord, views: readonly LegView[]): readonly LegView[] {
  const detached = new Set<string>()
  for (const { name, state } of record.members) if (state === 'detached') detached.add(name)
  return views.filter(
    ({ leg, name, found }) => found !== null && leg.refusal === '' && !detached.has(name),
  )
}

/**
 * Claims the legs: from here on every leg that can refuse an older head does. With `outdo` needed
 * legs are claimed also where another head that had claimed more gave one up; otherwise such a leg
 * fences this head, because the other may be a newer one of this volume. Resolves to whether
 * another head had claimed a leg after this one did.
 */
async function claimAll(
  volume: Volume,
  needed: readonly Leg[],
  views: readonly LegView[],
  given: GivenUp,
): Promise<boolean> {
  const asked = given === 'outdo' ? needed.map((leg) => claimedBefore(volume, leg)) : []
  const before = claimedOf(await Promise.all(asked))
  const { head } = volume
  await head.chooseClaim(volume, before)
  const claim = async ({ leg, found }: LegView): Promise<boolean> => {
    const another = hadAnotherHead(volume, leg).catch(() => true)
    try {
      if (needed.includes(leg)) await makeClaim(volume, leg, another)
      else await claimMore(volume, leg, { given: 'respect', another })
    } catch (error) {
      // A leg that is not needed for the start may go away meanwhile.
      const failure = systemError(error, 'claiming')
      if (needed.includes(leg)) throw failure
      if (failure.code !== 'FENCED') return false
      if (found?.kind !== 'blank') throw failure
      leg.refuse(claimedByOthers)
    }
    return found?.kind === 'superblock' && (await another)
  }
  const another = await Promise.all(views.map(claim))
  return another.includes(true)
}

/** The other head came between the decision and the claim, which replaced the evidence of it. */
async function doubtOwnRecord(volume: Volume, { byOwnRecord }: Start): Promise<void> {
  await doubt(volume, (await loadOwn(volume)).value)
  await volume.head.save(volume)
  if (byOwnRecord)
    throw new StorageError('UNAVAILABLE', 'another head has claimed the legs', volume.path)
}

/**
 * Rejects if a leg has changed since it was examined: before the claim an older head could write to
 * it.
 */
async function mustBeAsSeen(views: readonly LegView[]): Promise<void> {
  const check = async ({ leg, found }: LegView): Promise<void> => {
    if (found?.kind !== 'superblock') return
    const { end } = leg
    const { serial, record } = found.superblock
    const now = await leg.superblocks.examineAgain(record.volume, [end])
    if (now.kind !== 'superblock' || now.superblock.serial !== serial || leg.end !== end)
      throw new StorageError('UNAVAILABLE', 'another head has changed it', leg.device.path)
  }
  await Promise.all(views.map(check))
}

/** Adds members for legs that are new to the record; drops members that are not configured. */
function complete(volume: Volume, record: VolumeRecord, views: readonly LegView[]): void {
  const names = new Set(volume.legs.map((leg) => leg.name))
  record.members = record.members.filter((member) => names.has(member.name))
  keepMembers(record)
  for (const { leg } of views)
    if (!record.members.some(({ name }) => name === leg.name)) addMember(volume, record, leg)
}

/** Makes the record the volume's, and ties the legs to its members. */
function bind(volume: Volume, record: VolumeRecord, views: readonly LegView[]): void {
  for (const { leg } of views) leg.bind(record.members.find(({ name }) => name === leg.name)!)
  keepHistory(volume, record)
  volume.bind(record)
  learnMarks(volume, record, views)
}

/**
 * Absent legs in sync that may still have what every leg that is here lost with its cache: writes
 * that were acknowledged, and not flushed. A disk without a name is another device after a restart,
 * and has lost its cache as well.
 */
function holdersOfWhatWasLost(
  { record, refusals }: Start,
  views: readonly LegView[],
  present: readonly Here[],
): string[] {
  const awaited = rules.awaitedForCache(record, present)
  return views.flatMap((view) => {
    const { name, member } = view.leg
    const waits = awaited.includes(member!) && !hasRestarted(view, refusals)
    const absence = waits ? absenceOf(view, member!, refusals) : null
    return absence === null ? [] : [`${name} (${absence})`]
  })
}

/**
 * Whether the leg is here with all that it had flushed, and restarted; a device that tells of
 * restarts keeps its name.
 */
function hasRestarted({ leg, found, mark }: LegView, refusals: Start['refusals']): boolean {
  if (restartsOf(leg.device) !== null || refusals.has(leg)) return false
  if (found?.kind !== 'superblock' || !showsMark(found, mark)) return false
  const { id, bootId } = leg.member!
  return found.superblock.self === id && leg.device.facts?.bootId !== bootId
}

/** A leg that is there and whole, as the rules see it. */
interface Here extends Present {
  readonly leg: Leg
}

function seen(leg: Leg): Here {
  const { device, readLast } = leg
  const tells = restartsOf(device) !== null
  return { leg, member: leg.member!, bootId: device.facts!.bootId, readLast, tells }
}

/** Why clients are told that acknowledged writes may be gone. */
const lostCaches = 'every leg in sync restarted and lost what was not flushed'
const lostByForce = 'an operator had the volume start without legs that may have more'

/** After a crash one leg is the truth, and the others are made equal to it. */
function choosePresent(
  volume: Volume,
  { forced }: Start,
  present: readonly Here[],
  intents: Bitmap,
): void {
  const record = volume.record!
  const choice = chooseSource(present, intents.count > 0 ? 'unclean' : 'clean')
  const before = volume.legs.map((leg) => leg.member!.state)
  settleMembers(record, present, choice)
  for (const { leg } of present) leg.adopt()
  for (const [at, leg] of volume.legs.entries()) noteSince(volume, leg, before[at]!)
  for (const { leg } of choice.differ) leg.lacksAfterCrash(volume, intents)
  if (!choice.lost && !forced) return
  record.bootId = volume.newId(32)
  failParkedChanges(volume, choice.lost ? lostCaches : lostByForce)
}

function namesInSync({ members }: VolumeRecord): string {
  const inSync = members.filter(({ state }) => state === 'in-sync')
  return inSync.map(({ id }) => id).join()
}

async function run(
  volume: Volume,
  start: Start,
  intents: Bitmap,
  changed: 'record' | 'members',
): Promise<void> {
  const { membership } = volume
  volume.intent.inherit(intents)
  for (const leg of volume.legs) leg.startAs(leg.member!)
  volume.starts()
  // Catch up with what happened to the legs while it was not listened to.
  for (const leg of volume.inSync) legChanged(volume, leg)
  if (membership.over()) return
  volume.remember('start', '', `started ${start.reason}`)
  await finishGrowth(volume)
  volume.intent.prepare()
  const started = await membership.start(changed)
  // The run may have ended since that was decided.
  if (!started || membership.over()) return
  await volume.head.serves(volume)
  if (membership.over()) return
  volume.runs()
}
