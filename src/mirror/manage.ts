import { StorageError } from '../base/errors.ts'
import { digest } from '../device/facts.ts'
import type { Changed } from './data/compare.ts'
import { forgetLeg, verifiedOf } from './data/differences.ts'
import { within } from './deadline.ts'
import { isFenced, isLast, leave } from './departure.ts'
import type { Leg } from './leg.ts'
import { labelMax } from './record.ts'
import { bothSides, inspect, join, judge, lifeOf, type Verdict } from './returning.ts'
import type { AttachOptions, LegOptions } from './settings.ts'
import { claimLeg, isSame, outbid, whatForceDoes } from './start/claims.ts'
import { addMember } from './start/create.ts'
import { tryStart } from './start/opening.ts'
import type { Found } from './superblock.ts'
import type { Volume } from './volume.ts'

/** The commands of operators. Each runs alone, see `Volume.control`. */

/** The error for a command that cannot be done as asked. */
export function refuse(volume: Volume, what: string): StorageError {
  return new StorageError('CONFIG', what, volume.path)
}

/** The leg of this name. Throws CONFIG if there is none. */
export function legNamed(volume: Volume, name: string): Leg {
  for (const leg of volume.legs) if (leg.name === name) return leg
  const names = volume.legs.map((one) => one.name)
  throw refuse(volume, `there is no leg ${name}; the legs are ${names.join(', ')}`)
}

/** Throws CONFIG unless the volume runs. */
export function mustRun(volume: Volume): void {
  if (!volume.running) throw refuse(volume, `the volume is ${volume.word}: ${volume.reason}`)
}

/** Throws CONFIG if the volume cannot do without the leg. */
export function mustSpare(volume: Volume, leg: Leg): void {
  if (isLast(volume, leg)) throw refuse(volume, `${leg.name} is the only leg in sync`)
  const left = volume.inSync.filter((one) => one !== leg).length
  const needed = Math.min(volume.settings.minInSync, volume.legs.length)
  if (left < needed)
    throw refuse(volume, `${left} legs would be left in sync, minInSync is ${needed}`)
}

/** Starts a volume that waits. Rejects with CONFIG if it does not run afterwards. */
export async function startVolume(
  volume: Volume,
  options: { readonly force?: boolean; readonly leg?: string },
): Promise<void> {
  if (volume.running) return
  if (options.leg !== undefined) legNamed(volume, options.leg)
  const force = options.force ?? false
  const outdone = volume.word === 'failed'
  if (outdone && !force) throw refuse(volume, `${volume.reason}; ${whatForceDoes}`)
  if (outdone) volume.waitAgain()
  volume.tries.beginAnew()
  // A leg that turned this head away is not reached before it is claimed with more.
  if (force && (outdone || volume.legs.some(isFenced))) await outbid(volume)
  await tryStart(volume, { force, leg: options.leg ?? null })
  // Where `running` was false before, the compiler believes it still is.
  if ((volume.word as string) !== 'running') throw refuse(volume, `it waits: ${volume.reason}`)
}

/**
 * Carries out a command that decides about a leg, which cannot come back by itself meanwhile. The
 * leg is reconsidered afterwards, because the command may have failed.
 */
export async function holding(
  volume: Volume,
  leg: Leg,
  command: () => Promise<void>,
): Promise<void> {
  volume.held.add(leg)
  try {
    await command()
  } finally {
    volume.held.delete(leg)
    volume.look(leg)
  }
}

/** A leg to be compared, its device at that moment, and the stamp of its content. */
export interface ToCompare {
  readonly leg: Leg
  readonly life: string
  readonly stamp: string | null
}

/** The outcome of the comparison. */
export type Compared = ToCompare & Changed

/** The detached leg to compare, which takes long; null when it need not be compared. */
export async function legToCompare(volume: Volume, name: string): Promise<ToCompare | null> {
  const { leg, verdict } = await examineForAttach(volume, name)
  if (leg.member!.state !== 'detached' || verdict.word !== 'partial') return null
  const life = lifeOf(leg)
  const stamp = await stampOf(volume, leg)
  return stamp !== null && stamp === leg.member!.stamp ? null : { leg, life, stamp }
}

/** Returns a leg that was detached or refused. `compared` is the outcome of the comparison. */
export async function attachLeg(
  volume: Volume,
  name: string,
  { discard: always = false, replace = false }: AttachOptions,
  compared: Compared | null,
): Promise<void> {
  const { leg, found, verdict } = await examineForAttach(volume, name)
  const discard = always || (replace && found.kind === 'blank')
  const settled = await settle(volume, leg, { found, verdict, discard })
  if (leg.member!.state === 'detached') {
    const discarded = await changes(volume, leg, settled, compared)
    if (discarded !== '' && !discard)
      throw refuse(
        volume,
        `${name} was, or may have been, changed since it was detached: ${discarded} be discarded`,
      )
  }
  leg.welcome()
  await takeBack(volume, leg)
  if (discard)
    volume.remember('operator', name, 'attached, discarding what was changed on it alone')
  await mustJoin(volume, leg, settled)
}

/** Notes durably that this head writes to the leg again, so that its stamp does not count. */
export async function takeBack(volume: Volume, { member }: Leg): Promise<void> {
  if (member!.stamp === null) return
  member!.stamp = null
  await durably(volume, 'record')
}

/** How much was changed on a detached leg alone, '' for nothing; notes the extents to copy. */
async function changes(
  volume: Volume,
  leg: Leg,
  verdict: Verdict,
  compared: Compared | null,
): Promise<string> {
  const { left, stamp } = leg.member!
  const { dataSize } = volume.record!
  // An operator who invalidated it has said so already.
  if (verdict.word === 'full')
    return left === null ? '' : `${verdict.cause}; up to ${dataSize} bytes would`
  const now = await stampOf(volume, leg)
  const before = compared === null ? stamp : compared.stamp
  if (now !== before || (compared === null && now === null))
    throw refuse(volume, `${leg.name} is being changed`)
  if (compared === null) return ''
  if (lifeOf(leg) !== compared.life)
    throw refuse(volume, `${leg.name} restarted, or was exchanged, while it was compared`)
  // Extents that were missed were not compared: changes in them are known by extents only.
  leg.dirty!.coarsen()
  // Where the volume was written to as well, it is unknown which side changed what.
  const both = stamp !== null && now !== null ? leg.dirty!.bits.count * volume.extentSize : 0
  for (const extent of compared.extents) leg.dirty!.set(extent)
  if (compared.bytes === 0 && both === 0) return ''
  const elsewhere =
    both === 0 ? '' : `, and up to ${Math.min(both, dataSize)} bytes where both were,`
  return `${compared.bytes} bytes${elsewhere} would`
}

async function examineForAttach(
  volume: Volume,
  name: string,
): Promise<{ leg: Leg; found: Found; verdict: Verdict }> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  if (volume.writers.includes(leg)) throw refuse(volume, `${name} is ${leg.member!.state} already`)
  if (!leg.device.usable) throw refuse(volume, `${name} is ${leg.device.state.word}`)
  if (leg.pending > 0) throw refuse(volume, `requests of ${name} are still under way`)
  const found = await inspect(volume, leg, 'outdo')
  return { leg, found, verdict: judge(volume, leg, found) }
}

/** A digest of the content's stamp; null where the device has none. */
export async function stampOf(volume: Volume, leg: Leg): Promise<string | null> {
  const stamp = await within(volume, leg.device.driver.stamp?.())
  return stamp === undefined ? null : digest(stamp)
}

/** The verdict to join by: as it is, or `full` if the operator discards what is in the way. */
async function settle(
  volume: Volume,
  leg: Leg,
  { found, verdict, discard }: { found: Found; verdict: Verdict; discard: boolean },
): Promise<Extract<Verdict, { word: 'partial' | 'full' }>> {
  if (verdict.word === 'partial' || verdict.word === 'full') return verdict
  const bytes = verdict.word === 'diverged' ? await bothSides(volume, leg, found) : ''
  if (!discard || verdict.word === 'impossible')
    throw refuse(volume, `${leg.name} is refused: ${verdict.cause}${bytes}${waysOut(verdict)}`)
  await claimLeg(volume, leg, 'outdo')
  // A new identity: it is a blank leg from now on.
  leg.superblocks.forget()
  leg.member!.left = null
  return { word: 'full', cause: `discarded by the operator: ${verdict.cause}` }
}

/** What an operator may do about a refusal that the reason does not say. */
function waysOut({ word, cause }: Verdict): string {
  if (word === 'impossible' || cause.includes('`')) return ''
  return '; with --discard it loses what it has alone, and is filled'
}

/** Has the leg join. Resolves when that is durable; rejects with UNAVAILABLE if it went away. */
export async function mustJoin(
  volume: Volume,
  leg: Leg,
  verdict: Extract<Verdict, { word: 'partial' | 'full' }>,
): Promise<void> {
  const { membership } = volume
  if (await join(volume, leg, verdict)) {
    // The operator may not be told before the next start would know it.
    await volume.membership.settled()
    if (!membership.over()) return
  }
  const what = `${leg.name}, or the volume, went away meanwhile`
  throw new StorageError('UNAVAILABLE', what, volume.path)
}

/** A leg that was begun to be added and is none: it is one of `volume.leaving`, for `letGo`. */
interface NotAdded {
  readonly leg: Leg
  readonly error: unknown
}

/**
 * Adds an open device as a leg, which the volume owns then. Resolves to null when it is durably a
 * member, not yet in sync, and to why not when that failed. Rejects with CONFIG where it was not
 * begun. The caller keeps the device in both cases.
 */
export async function addLeg(
  volume: Volume,
  options: LegOptions,
  { discard = false }: { readonly discard?: boolean },
): Promise<NotAdded | null> {
  mustRun(volume)
  const { name, device } = options
  if (volume.legs.some((leg) => leg.name === name)) throw refuse(volume, `there is a leg ${name}`)
  if (name === '' || name.length > labelMax)
    throw refuse(volume, `a name has 1 to ${labelMax} characters`)
  if (!device.usable) throw refuse(volume, `${device.path} is ${device.state.word}`)
  if ([...volume.leaving].some((one) => isSame(one.device, device)))
    throw refuse(volume, `requests of ${device.path} are still under way`)
  const leg = volume.addLeg(options)
  let failed: NotAdded | null = null
  await holding(volume, leg, async () => {
    try {
      addMember(volume, volume.record!, leg)
      leg.lacksAll(volume)
      volume.regroup()
      const found = await inspect(volume, leg, 'outdo')
      const seen = { found, verdict: judge(volume, leg, found), discard }
      const verdict = await settle(volume, leg, seen)
      volume.remember('operator', name, 'added')
      await mustJoin(volume, leg, { word: 'full', cause: verdict.cause })
    } catch (error) {
      forget(volume, leg)
      volume.leaving.add(leg)
      failed = { leg, error }
    }
  })
  return failed
}

function forget(volume: Volume, leg: Leg): void {
  strike(volume, leg)
  leg.forget()
  leg.welcome()
  volume.dropLeg(leg)
  volume.regroup()
}

function strike({ record }: Volume, { member }: Leg): void {
  record!.members = record!.members.filter((one) => one !== member)
  forgetLeg(verifiedOf(record!), member!.name)
}

/** Removes a leg. It is shown until its removal is durable, and stays claimed, see `giveUp`. */
export async function removeLeg(volume: Volume, name: string): Promise<Leg> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  if (volume.inSync.includes(leg)) mustSpare(volume, leg)
  await holding(volume, leg, async () => {
    try {
      if (volume.writers.includes(leg)) leave(volume, leg, 'missing', 'removed by the operator')
      volume.remember('operator', name, 'removed')
      strike(volume, leg)
      await durably(volume, 'members')
      forget(volume, leg)
      volume.leaving.add(leg)
    } catch (error) {
      volume.remember('operator', name, 'not removed for certain: the volume stopped before')
      throw error
    }
  })
  return leg
}

/** Makes a change of the record durable. Rejects if the run ends first. */
async function durably(volume: Volume, what: 'record' | 'members'): Promise<void> {
  const { membership } = volume
  volume.membership.request(what)
  await volume.membership.settled()
  if (membership.over()) throw volume.unavailable()
}

/** Has a leg copied whole again. Rejects with CONFIG if it cannot be spared. */
export async function invalidateLeg(volume: Volume, name: string): Promise<void> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  if (volume.inSync.includes(leg)) mustSpare(volume, leg)
  volume.remember('operator', name, 'invalidated: it is copied whole')
  if (volume.writers.includes(leg)) leave(volume, leg, 'missing', 'invalidated by the operator')
  leg.member!.left = null
  leg.lacksAll(volume)
  await durably(volume, 'members')
  leg.backOff.end()
  volume.look(leg)
}
