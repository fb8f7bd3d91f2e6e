import { StorageError } from '../base/errors.ts'
import { announce } from './announce.ts'
import type { Leg } from './leg.ts'
import { reasonMax, type LegState } from './record.ts'
import type { DeviceNow } from './rules/effects.ts'
import { rules } from './rules/table.ts'
import type { Failed } from './rules/verdicts.ts'
import type { Volume } from './volume.ts'

/** States that a leg goes through, again and again, while it is out. */
const out: ReadonlySet<LegState> = new Set(['missing', 'failed', 'syncing'])

/** Takes a leg out by an operator's word. Never the last leg in sync. */
export function leave(volume: Volume, leg: Leg, state: LegState, reason: string): void {
  volume.membership.tell({ kind: 'take-out', leg, state, reason })
}

/** Sets the state of a leg that takes no part, and the reason. */
export function setState(volume: Volume, leg: Leg, state: LegState, reason: string): void {
  const member = leg.member!
  const was = member.state
  member.state = state
  member.reason = reason.slice(0, reasonMax)
  noteSince(volume, leg, was)
}

/**
 * Notes since when the leg is in its state. A leg that fails at each try is out since it was last
 * in sync.
 */
export function noteSince(volume: Volume, { member }: Leg, was: LegState): void {
  const stays = out.has(was) && out.has(member!.state)
  if (!stays) member!.since = Math.floor(volume.clock.wall())
}

/** Begins a pause before the leg is tried again, longer each time. */
export function backOff(volume: Volume, leg: Leg): void {
  const { legRetryMs, legRetryMsMax } = volume.settings
  leg.backOff.begin(volume.clock, legRetryMs, legRetryMsMax, () => {
    volume.look(leg)
  })
}

/**
 * Decides what becomes of a leg that failed a write, a flush or its metadata. Returns false when it
 * stays, being the last, and the client must be told. What a failed flush lost is not decided here:
 * the leg's device tells that its cache began another life, see `legChanged`.
 */
export function failed(volume: Volume, leg: Leg, what: Failed, error: StorageError): boolean {
  return volume.membership.tell({ kind: 'failed', leg, work: what, error }) !== 'tell-client'
}

/**
 * Decides what becomes of a leg that failed a read. Returns true if what it could not read is to be
 * written to it again.
 */
export function readFailed(volume: Volume, leg: Leg, error: StorageError): boolean {
  return volume.membership.tell({ kind: 'failed', leg, work: 'read', error }) === 'repair'
}

/** To be called when the leg's device has changed its state or its facts. */
export function legChanged(volume: Volume, leg: Leg): void {
  leg.noticeFacts()
  if (!volume.active || !volume.writers.includes(leg)) {
    if (leg.coming !== null)
      volume.membership.tell({ kind: 'device', leg, now: deviceNow(volume, leg) })
    noteLostCache(leg)
    announce(volume)
    volume.look(leg)
    return
  }
  const now = deviceNow(volume, leg)
  const well = now.word === 'there' && now.bootId === leg.bootId
  volume.membership.tell({ kind: 'device', leg, now })
  if (!volume.writers.includes(leg)) return
  if (now.word === 'there' && leg.hasRestarted) {
    doubt(volume, leg)
    return
  }
  if (!well) leg.adopt()
  volume.regroup()
  if (leg.endNow > leg.end) volume.hooks.onGrown()
}

/**
 * The target that serves the leg restarted, and its disk may have been put back to an older state
 * meanwhile: what the leg shows is examined before it takes part again.
 */
function doubt(volume: Volume, leg: Leg): void {
  const reason = 'its target restarted'
  if (isLast(volume, leg)) volume.suspend(`${leg.name}: ${reason}`)
  else leave(volume, leg, 'missing', reason)
}

/**
 * Notes the loss if a leg that is away is seen in another life of its cache. It lacks what it had
 * not flushed, even if it comes back in its former life: a life that began with a failed flush ends
 * with the process of its target.
 */
function noteLostCache(leg: Leg): void {
  const { device, member } = leg
  if (!device.usable) return
  if (device.facts!.bootId !== member?.bootId || leg.hasRestarted) leg.loseCache()
}

/** What the rules have to know of a leg's device. */
function deviceNow(volume: Volume, leg: Leg): DeviceNow {
  const { flushError, state, facts } = leg.device
  const bootId = facts?.bootId ?? ''
  const now = { bootId, state: 'missing' as const, writing: volume.jobs.isWriting }
  if (isFenced(leg)) return { ...now, word: 'fenced', reason: state.reason }
  if (!leg.device.usable) {
    const reason = state.reason === '' ? state.word : `${state.word}: ${state.reason}`
    return { ...now, word: 'away', reason }
  }
  const { coming, identity, superblocks } = leg
  const isAnother = coming === null ? facts!.identity !== identity : !superblocks.isAsSeen
  if (isAnother || facts!.size < leg.end)
    return { ...now, word: 'exchanged', reason: 'another device is in its place' }
  const why = flushError?.message ?? state.reason
  const reason = `it lost what was not flushed: ${why === '' ? 'its target restarted' : why}`
  return { ...now, word: 'there', state: flushError === null ? 'missing' : 'failed', reason }
}

/** A request of the leg has been under way for too long: `times` the `legTimeoutMs`. */
export function legSlow(volume: Volume, leg: Leg, times: number): void {
  const reason = `no answer for ${(volume.settings.legTimeoutMs * times) / 1000} s`
  if (!volume.active || !volume.writers.includes(leg)) leg.abandon()
  else volume.membership.tell({ kind: 'silent', leg, reason })
}

/**
 * Whether the leg's target refused this head when it came back: no request fails with that then.
 */
export function isFenced({ device }: Leg): boolean {
  return device.state.code === 'FENCED'
}

/** The error for a leg that `isFenced`. */
export function fencing({ device }: Leg): StorageError {
  return new StorageError('FENCED', device.state.reason, device.path)
}

/** Whether it is durable of no other leg that it is in sync: a crash would leave this one alone. */
export function isLast({ run }: Volume, leg: Leg): boolean {
  return rules.isLast(run, leg)
}
