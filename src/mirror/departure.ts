import { StorageError } from '../base/errors.ts'
import { announce } from './announce.ts'
import type { Leg } from './leg.ts'
import { reasonMax, type LegState } from './record.ts'
import type { DeviceNow } from './rules/effects.ts'
import { rules } from './rules/table.ts'
import type { Failed } from './rules/verdicts.ts'
import type { Volume } from './volume.ts'

/** States that a leg which is out goes through, again and again. */
const out: ReadonlySet<LegState> = new Set(['missing', 'failed', 'syncing'])

/** Takes a leg out by an operator's word. Never the last leg in sync. */
export function leave(volume: Volume, leg: Leg, state: LegState, reason: string): void {
  volume.membership.tell({ kind: 'take-out', leg, state, reason })
}

export function setState(volume: Volume, leg: Leg, state: LegState, reason: string): void {
  const member = leg.member!
  const was = member.state
  member.state = state
  member.reason = reason.slice(0, reasonMax)
  noteSince(volume, leg, was)
}

/** The leg is in another state. One that fails at each try is out since it was in sync last. */
export function noteSince(volume: Volume, { member }: Leg, was: LegState): void {
  const stays = out.has(was) && out.has(member!.state)
  if (!stays) member!.since = Math.floor(volume.clock.wall())
}

/** Leaves the leg in peace for a while, longer each time. */
export function backOff(volume: Volume, leg: Leg): void {
  const { legRetryMs, legRetryMsMax } = volume.settings
  leg.backOff.begin(volume.clock, legRetryMs, legRetryMsMax, () => {
    volume.look(leg)
  })
}

/**
 * What becomes of a leg that a write, a flush or its metadata failed on. False when it stays, being
 * the last, and the client must be told. What a failed flush lost is not decided here: the leg's
 * device tells that it began another life of its cache, see `legChanged`.
 */
export function failed(volume: Volume, leg: Leg, what: Failed, error: StorageError): boolean {
  return volume.membership.tell({ kind: 'failed', leg, work: what, error }) !== 'tell-client'
}

/** Whether what the leg could not read is to be written to it again. */
export function readFailed(volume: Volume, leg: Leg, error: StorageError): boolean {
  return volume.membership.tell({ kind: 'failed', leg, work: 'read', error }) === 'repair'
}

/** The leg's device changed its state or its facts. */
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
 * Whoever keeps the leg restarted, and may have been put back to an older state meanwhile: what it
 * shows is looked at before it takes part again.
 */
function doubt(volume: Volume, leg: Leg): void {
  const reason = 'its target restarted'
  if (isLast(volume, leg)) volume.suspend(`${leg.name}: ${reason}`)
  else leave(volume, leg, 'missing', reason)
}

/**
 * A leg that is away is seen in another life of its cache. It lacks what it had not flushed, also
 * if it comes back in the life that it had before: one that began with a failed flush ends with the
 * process of its target.
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

/** A request has been under way for too long: `times` what a leg has. */
export function legSlow(volume: Volume, leg: Leg, times: number): void {
  const reason = `no answer for ${(volume.settings.legTimeoutMs * times) / 1000} s`
  if (!volume.active || !volume.writers.includes(leg)) leg.abandon()
  else volume.membership.tell({ kind: 'silent', leg, reason })
}

/** Whether its target turned this head away when it came back: no request says so then. */
export function isFenced({ device }: Leg): boolean {
  return device.state.code === 'FENCED'
}

export function fencing({ device }: Leg): StorageError {
  return new StorageError('FENCED', device.state.reason, device.path)
}

/** Whether of no other leg it is durable that it is in sync: a crash would leave this one alone. */
export function isLast({ run }: Volume, leg: Leg): boolean {
  return rules.isLast(run, leg)
}
