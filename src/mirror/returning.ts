import { Bitmap } from '../base/bitmap.ts'
import { StorageError, systemError } from '../base/errors.ts'
import { forgets, restartsOf } from '../device/facts.ts'
import { announce } from './announce.ts'
import { noteCopied } from './data/differences.ts'
import { Resync } from './data/resync.ts'
import { backOff, noteSince, setState } from './departure.ts'
import { decodeMap, extentCount, mapBytes, mapOffset, metadataBytes } from './layout.ts'
import type { Leg } from './leg.ts'
import type { Outcome } from './membership.ts'
import { endsOf, isPast, remembers, sameGeneration } from './record.ts'
import type { Effect } from './rules/effects.ts'
import { claimLeg, type GivenUp } from './start/claims.ts'
import { refusalOf } from './start/decision.ts'
import { splitReason, tooOldToCompare, wasNeverServed } from './start/forks.ts'
import { showsMark, type Found } from './superblock.ts'
import { anotherDevice } from './superblocks.ts'
import type { Volume } from './volume.ts'

/** The verdict on a leg that is there again. */
export type Verdict =
  | { readonly word: 'partial' | 'full'; readonly cause: string }
  /** The operator may discard what is on the leg, unless the word is `impossible`. */
  | { readonly word: 'refused' | 'diverged' | 'impossible'; readonly cause: string }

/**
 * Examines an absent leg and has it come back, or refuses it. Does nothing while it may not return.
 * Never rejects.
 */
export async function bringBack(volume: Volume, leg: Leg): Promise<void> {
  const { membership } = volume
  leg.want()
  if (!mayReturn(volume, leg)) return
  try {
    const found = await inspect(volume, leg)
    if (membership.over() || !leg.device.usable) return
    const verdict = judge(volume, leg, found)
    if (verdict.word === 'partial' || verdict.word === 'full') await join(volume, leg, verdict)
    else {
      const bytes = verdict.word === 'diverged' ? await bothSides(volume, leg, found) : ''
      leg.refuse(`${verdict.cause}${bytes}`)
      volume.remember('membership', leg.name, `refused: ${leg.refusal}`)
      announce(volume)
    }
  } catch (error) {
    const failure = systemError(error, 'coming back')
    if (membership.over()) return
    if (failure.code === 'FENCED') volume.halt('failed', 'a newer head has taken over', failure)
    else stayAway(volume, leg, failure.message)
  }
}

function mayReturn(volume: Volume, leg: Leg): boolean {
  return (
    volume.running &&
    volume.legs.includes(leg) &&
    !volume.writers.includes(leg) &&
    !volume.held.has(leg) &&
    leg.member?.state !== 'detached' &&
    leg.device.usable &&
    leg.pending === 0 &&
    leg.refusal === '' &&
    leg.backOff.isOver
  )
}

function stayAway(volume: Volume, leg: Leg, reason: string): void {
  setState(volume, leg, leg.device.usable ? 'failed' : 'missing', reason)
  backOff(volume, leg)
  announce(volume)
}

/**
 * Examines the leg, and claims it for this head unless it seems to be another volume's. Resolves to
 * what is on it. Rejects when it cannot be read, and with FENCED when it refuses this head.
 */
export async function inspect(
  volume: Volume,
  leg: Leg,
  given: GivenUp = 'respect',
): Promise<Found> {
  const found = await examine(volume, leg)
  const ours =
    found.kind === 'superblock' && found.superblock.record.volume === volume.record!.volume
  if (!ours && found.kind !== 'blank') return found
  const { word } = judge(volume, leg, found)
  const joins = word === 'partial' || word === 'full'
  try {
    if (!(await claimLeg(volume, leg, joins ? given : 'respect')))
      return joins ? { kind: 'damaged', reason: givenUpByOthers } : found
  } catch (error) {
    // A blank leg may be another volume's: its refusal is no sign of another head of this one.
    if (ours || (error as StorageError).code !== 'FENCED') throw error
    return { kind: 'damaged', reason: claimedByOthers }
  } finally {
    // Another device that came into its place meanwhile need not be what was claimed, or refused
    // that.
    leg.superblocks.mustBeSameDevice()
  }
  // Before the claim an older head may have written to it.
  return examine(volume, leg)
}

/** Why a blank leg is refused. */
export const claimedByOthers = 'it is blank, and another head has claimed it'

/** Why a leg is not taken unasked that a newer head, or one of another volume, has given up. */
const givenUpByOthers = 'another head has had it that came further: `dst leg attach` takes it'

/**
 * Identifies the leg's device and its present start: what was seen in another need not be there
 * now.
 */
export function lifeOf({ device }: Leg): string {
  const { facts } = device
  return `${facts?.identity} ${facts?.bootId} ${restartsOf(device)}`
}

/** Throws UNAVAILABLE if the leg, which left, is not what it was when it took part. */
export function mustBeAsItLeft(leg: Leg): void {
  const { facts } = leg.device
  if (leg.hasRestarted || facts?.identity !== leg.identity || facts.bootId !== leg.bootId)
    throw anotherDevice(leg)
}

async function examine(volume: Volume, leg: Leg): Promise<Found> {
  const found = await leg.superblocks.examineEnds(volume.record!.volume, endsOf(leg.member!))
  const mark = found.kind === 'superblock' ? volume.marks.of(leg, found.superblock) : 0
  leg.superblocks.note(found, mark)
  return found
}

/**
 * Text for people: how much each side of a split changed, as far as dirty maps know; '' if unknown.
 * Rejects when the leg cannot be read.
 */
export async function bothSides(volume: Volume, leg: Leg, found: Found): Promise<string> {
  if (found.kind !== 'superblock') return ''
  const { record } = found.superblock
  const changed = new Bitmap(extentCount(record))
  const others = record.members.filter(({ id }) => id !== found.superblock.self)
  for (const map of [0, ...others.map(({ slot }) => 1 + slot)])
    decodeMap(await leg.read(mapOffset(record, leg.end, map), mapBytes(record)), map, changed)
  const theirs = Math.min(changed.count * record.extentSize, record.dataSize)
  const lacks = (leg.dirty?.bits.count ?? 0) * volume.extentSize
  const ours = Math.min(lacks, volume.record!.dataSize)
  return `; it has up to ${theirs} bytes that the volume lacks, the volume up to ${ours}`
}

/** Decides by what was found on a leg how it may come back to the running volume. */
export function judge(volume: Volume, leg: Leg, found: Found): Verdict {
  const { record } = volume
  const facts = leg.device.facts!
  const refused = (cause: string): Verdict => ({ word: 'refused', cause })
  const impossible = (cause: string): Verdict => ({ word: 'impossible', cause })
  if (facts.readOnly) return impossible('it is read-only')
  if (facts.blockSize > record!.blockSize)
    return impossible(`its blocks of ${facts.blockSize} bytes are larger than the volume's`)
  const room = Math.max(0, leg.endNow - metadataBytes(volume.geometry))
  if (room < record!.dataSize)
    return impossible(`it has room for ${room} bytes, the volume has ${record!.dataSize}`)
  if (found.kind === 'blank') return judgeBlank(volume, leg)
  if (found.kind !== 'superblock') return refused(refusalOf(found))
  return judgeSuperblock(volume, leg, found)
}

/**
 * A leg that had a superblock and is blank may be a file system that is not mounted, or a wrong
 * disk: filling it would make a second copy in the wrong place, or destroy what is there.
 */
function judgeBlank({ path }: Volume, { name, device, member }: Leg): Verdict {
  const known = member!.left !== null && !forgets(device)
  if (!known) return { word: 'full', cause: 'it is blank: a new leg' }
  const fill = `\`dst leg attach ${path} ${name} --replace\` fills it`
  const ask = 'is its file system mounted, is it the right disk?'
  return { word: 'refused', cause: `it was a leg and is blank: ${ask} ${fill}` }
}

type FoundSuperblock = Extract<Found, { kind: 'superblock' }>

function judgeSuperblock(volume: Volume, leg: Leg, found: FoundSuperblock): Verdict {
  const { superblock } = found
  const record = volume.record!
  const member = leg.member!
  const { self } = superblock
  const theirs = superblock.record
  const refused = (cause: string): Verdict => ({ word: 'refused', cause })
  if (theirs.volume !== record.volume)
    return refused(`it belongs to another volume, ${theirs.volume}`)
  const owner = record.members.find(({ id }) => id === self)
  if (owner !== undefined && owner !== member) {
    const original = volume.legs.find((one) => one.member === owner && one.device.usable)
    if (original === undefined) return refused(`it is leg ${owner.name}`)
    // A write to one of the two would also be on the other.
    if (original.device.facts!.identity === leg.device.facts!.identity)
      return { word: 'impossible', cause: `it is leg ${owner.name}, which is configured twice` }
    return refused(`it is a copy of ${owner.name}, byte for byte`)
  }
  const { generation } = theirs
  // The leg may have left with a generation that was no base yet, and been away for long since.
  const isMarked = member.markedIn !== undefined && sameGeneration(generation, member.markedIn)
  const past = isMarked || sameGeneration(generation, record.generation) || isPast(theirs, record)
  if (!past) {
    if (remembers(theirs, record.generation))
      return refused(`it is ahead, at generation ${generation.counter}: this head is the stale one`)
    const inSync = volume.readable.map((one) => ({ self: one.member!.id, record }))
    if (wasNeverServed(theirs, inSync))
      return {
        word: 'full',
        cause: `generation ${generation.counter}, which it has, was never served`,
      }
    // Then it is unknown what each side has alone, and whether it has anything.
    const unknown = tooOldToCompare(theirs, record) || tooOldToCompare(record, theirs)
    return { word: unknown ? 'refused' : 'diverged', cause: splitReason(theirs, record) }
  }
  if (owner === undefined) return { word: 'full', cause: 'it was a leg before, and was removed' }
  // Of a detached leg the stamp tells whether it was changed.
  if (member.state !== 'detached' && leg.isAnotherThan(member))
    return { word: 'full', cause: 'another device is in its place' }
  if (member.left === null) return { word: 'full', cause: 'it is not known what it lacks' }
  const mark = volume.marks.of(leg, superblock)
  if (member.state !== 'detached' && !showsMark(found, mark))
    return { word: 'full', cause: putBackCause(`superblock ${superblock.serial}`, `${mark}`) }
  if (generation.counter < member.left.counter)
    return {
      word: 'full',
      cause: putBackCause(`generation ${generation.counter}`, `${member.left.counter}`),
    }
  return { word: 'partial', cause: member.reason === '' ? 'it was away' : member.reason }
}

function putBackCause(shown: string, had: string): string {
  return `it was put back to an older state: it shows ${shown}, and had ${had}`
}

/**
 * Has the leg take part again. Resolves to false if the leg or the volume went away meanwhile.
 * Rejects with the leg's error when its superblock cannot be written.
 */
export async function join(
  volume: Volume,
  leg: Leg,
  { word, cause }: Extract<Verdict, { readonly word: 'partial' | 'full' }>,
): Promise<boolean> {
  if (!volume.running) return false
  // An operator's command may have waited since the leg was examined.
  leg.superblocks.mustBeSameDevice()
  const member = leg.member!
  if (leg.superblocks.serial === 0) {
    member.id = volume.newId(32)
    delete member.mark
    delete member.markedIn
  }
  leg.noteEnd()
  const { hasRestarted: restarted } = leg
  const how = { copy: word, bootId: leg.device.facts!.bootId, restarted, cause }
  const outcome = await volume.membership.ask(leg, { kind: 'return', leg, how })
  if (typeof outcome === 'object')
    throw new StorageError(outcome.code, outcome.message, leg.device.path)
  if (outcome === 'back') return true
  if (volume.active) volume.look(leg)
  return false
}

/** The leg gets writes again: starts to copy what it lacks. */
export function isBack(volume: Volume, { leg, how, was }: Back): void {
  const { copy, cause } = how
  volume.remember('membership', leg.name, `is back, ${copy} copy: ${cause}`)
  leg.adopt()
  // The rest of it after an interruption is a partial copy, and makes the leg whole as well.
  if (copy === 'full') leg.member!.whole = true
  noteSince(volume, leg, was)
  const crashed = leg.takeCrashed()
  const resync = new Resync(volume, leg, copy === 'partial' && crashed ? 'crash' : copy, cause)
  volume.resyncs.set(leg, resync)
  void drive(volume, leg, resync)
  announce(volume)
}

type Back = Extract<Effect<Leg>, { readonly kind: 'back' }>

async function drive(volume: Volume, leg: Leg, resync: Resync): Promise<void> {
  while (await resync.run())
    if ((await volume.control.run(() => finish(volume, leg, resync))) !== 'copy-again') break
  resync.end()
}

/** The leg lacks nothing: has the rules make it in sync, unless it missed something meanwhile. */
async function finish(volume: Volume, leg: Leg, resync: Resync): Promise<Outcome> {
  const { membership } = volume
  if (!resync.alive()) return 'left'
  const outcome = await membership.ask(leg, { kind: 'copied', leg, what: 'all' })
  if (outcome !== 'joining') return outcome
  await membership.settled()
  if (volume.readable.includes(leg)) volume.hooks.onGrown()
  return outcome
}

/** Notes the end of a copy: the leg lacks nothing, which is about to be saved. */
export function isWhole(volume: Volume, leg: Leg): void {
  const resync = volume.resyncs.get(leg)!
  volume.resyncs.delete(leg)
  announce(volume)
  if (leg.member!.whole === true) noteCopied(volume.record!, leg.member!)
  volume.remember('resync', leg.name, 'is in sync', resync.summary('complete'))
}
