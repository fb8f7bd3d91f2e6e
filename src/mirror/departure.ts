import { StorageError } from '../base/errors.ts'
import { announce } from './announce.ts'
import { BlockSet } from './blocks.ts'
import { DirtyMap } from './dirty-map.ts'
import type { Leg } from './leg.ts'
import { reasonMax, type LegState } from './record.ts'
import { onCacheLoss, onFailure, unreachable, wordFor, type Failed } from './verdicts.ts'
import type { Volume } from './volume.ts'

/** States that a leg which is out goes through, again and again. */
const out: ReadonlySet<LegState> = new Set(['missing', 'failed', 'syncing'])

/** Failed reads of one leg before it leaves. */
const readErrorsMax = 64

/**
 * Takes a leg out: no write goes to it any more, what it lacks is kept, and nothing that it lacks
 * is acknowledged before its leaving is durable. Never the last leg in sync. `forgets`: what it
 * acknowledged and did not flush is lost for certain, not only if it restarted.
 */
export function leave(
  volume: Volume,
  leg: Leg,
  state: LegState,
  why: string,
  forgets = false,
): void {
  const reason = why.slice(0, reasonMax)
  const member = leg.member!
  const wasInSync = member.state === 'in-sync'
  const { intent, blockGeometry } = volume
  const dirty = (leg.dirty ??= new DirtyMap(blockGeometry))
  const unflushed = (leg.unflushed ??= new BlockSet(blockGeometry))
  if (forgets) dirty.forgetCopies()
  volume.markUnderWay(leg)
  intent.forEachSince(leg.flushedMoment, (extent, row) => {
    unflushed.add(extent, row)
  })
  if (forgets) {
    dirty.missSet(unflushed)
    leg.unflushed = null
  }
  if (wasInSync && member.left === null) member.left = volume.record!.base
  setState(volume, leg, state, reason)
  volume.finishing.delete(leg)
  volume.announced.delete(leg)
  const resync = volume.resyncs.get(leg)
  volume.regroup()
  volume.remember('membership', leg.name, `left as ${state}: ${reason}`)
  volume.membership.request(wasInSync)
  backOff(volume, leg)
  resync?.stop(reason)
  leg.abandon()
}

export function setState(volume: Volume, leg: Leg, state: LegState, reason: string): void {
  const member = leg.member!
  // A leg that fails at each try is out all the while: since it was in sync last.
  const stays = out.has(member.state) && out.has(state)
  if (!stays) member.since = Math.floor(volume.clock.wall())
  member.state = state
  member.reason = reason.slice(0, reasonMax)
}

/** Leaves the leg in peace for a while, longer each time. */
export function backOff(volume: Volume, leg: Leg): void {
  const { legRetryMs, legRetryMsMax } = volume.settings
  const { retry } = leg
  retry.delay = Math.min(legRetryMsMax, Math.max(legRetryMs, retry.delay * 2))
  retry.timer?.cancel()
  retry.timer = volume.clock.timer(retry.delay, () => {
    retry.timer = null
    volume.look(leg)
  })
}

/** The leg may come back at once. */
export function endBackOff(leg: Leg): void {
  leg.retry.timer?.cancel()
  leg.retry.timer = null
  leg.retry.delay = 0
}

/**
 * What becomes of a leg that a write, a flush or its metadata failed on. False when it stays, being
 * the last, and the client must be told. What a failed flush lost is not decided here: the leg's
 * device tells that it began another life of its cache, see `legChanged`.
 */
export function failed(volume: Volume, leg: Leg, what: Failed, error: StorageError): boolean {
  const takesPart = what === 'metadata' ? volume.keepers : volume.writers
  if (fenced(volume, error) || !takesPart.includes(leg)) return true
  const verdict = onFailure(what, error.code, standsAlone(volume, leg))
  const reason = what === 'write' ? error.message : `${what}: ${error.message}`
  if (verdict === 'suspend') volume.suspend(`${leg.name}: ${reason}`)
  else if (verdict === 'leave') leave(volume, leg, wordFor(error.code), reason)
  return verdict !== 'tell'
}

/** Whether what the leg could not read is to be written to it again. */
export function readFailed(volume: Volume, leg: Leg, error: StorageError): boolean {
  if (fenced(volume, error) || !volume.writers.includes(leg)) return false
  if (!unreachable.has(error.code)) {
    if (++leg.readErrors < readErrorsMax || standsAlone(volume, leg)) return true
    leave(volume, leg, 'failed', `too many read errors: ${error.message}`)
  } else if (standsAlone(volume, leg)) volume.suspend(`${leg.name}: ${error.message}`)
  else leave(volume, leg, 'missing', error.message)
  return false
}

/** The leg's device changed its state or its facts. */
export function legChanged(volume: Volume, leg: Leg): void {
  const { device } = leg
  if (!device.usable) leg.refusal = ''
  if (!volume.active || !volume.writers.includes(leg)) {
    announce(volume)
    volume.look(leg)
    return
  }
  if (isFenced(leg)) fenced(volume, fencing(leg))
  else if (!device.usable) {
    const { word, reason: why } = device.state
    const reason = why === '' ? word : `${word}: ${why}`
    if (standsAlone(volume, leg)) volume.suspend(`${leg.name} is ${reason}`)
    else leave(volume, leg, 'missing', reason)
  } else if (device.facts!.identity !== leg.identity || device.facts!.size < leg.end) {
    const reason = 'another device is in its place'
    if (standsAlone(volume, leg)) volume.suspend(`${leg.name}: ${reason}`)
    else leave(volume, leg, 'missing', reason)
  } else if (device.facts!.bootId !== leg.bootId) lostCache(volume, leg)
  else {
    volume.regroup()
    if (leg.endNow > leg.end) volume.onGrown()
  }
}

/** The leg is there, and has lost what it had not flushed: it restarted, or a flush failed. */
function lostCache(volume: Volume, leg: Leg): void {
  const { flushError, state } = leg.device
  const why = flushError?.message ?? state.reason
  const reason = `it lost what was not flushed: ${why === '' ? 'its target restarted' : why}`
  const lost = volume.intent.hasSince(leg.flushedMoment)
  const last = lost && standsAlone(volume, leg)
  const verdict = onCacheLoss({ lost, last, writing: volume.isWriting })
  if (verdict === 'leave') {
    leave(volume, leg, flushError === null ? 'missing' : 'failed', reason, true)
    return
  }
  if (last) volume.remember('membership', leg.name, `${reason}, and no other leg has it`)
  if (verdict === 'suspend') {
    volume.suspend(`${leg.name}: ${reason}`)
    return
  }
  leg.adopt()
  leg.dirty?.forgetCopies()
  if (verdict === 'tell') {
    distrustOthers(volume, leg)
    volume.record!.bootId = volume.newId(32)
  }
  volume.membership.request(false)
  volume.regroup()
}

/**
 * The last leg lost what it had not flushed. It stays what the volume says; a leg that has those
 * writes all the same differs from it, and copies them back.
 */
function distrustOthers(volume: Volume, last: Leg): void {
  for (const { dirty } of volume.legs)
    if (dirty !== null && dirty !== last.dirty)
      volume.intent.forEachSince(last.flushedMoment, (extent) => {
        dirty.set(extent)
      })
}

/** A request has been under way for too long: `times` what a leg has. */
export function legSlow(volume: Volume, leg: Leg, times: number): void {
  const reason = `no answer for ${(volume.settings.legTimeoutMs * times) / 1000} s`
  if (!volume.active || !volume.writers.includes(leg)) leg.abandon()
  else if (standsAlone(volume, leg)) volume.suspend(`${leg.name}: ${reason}`)
  else leave(volume, leg, 'missing', reason)
}

/** A newer head has taken over: this one stops, and changes nothing that is persisted. */
function fenced(volume: Volume, error: StorageError): boolean {
  if (error.code !== 'FENCED') return false
  volume.halt('failed', 'a newer head has taken over', error)
  return true
}

/** Whether its target turned this head away when it came back: no request says so then. */
export function isFenced({ device }: Leg): boolean {
  return device.state.code === 'FENCED'
}

export function fencing({ device }: Leg): StorageError {
  return new StorageError('FENCED', device.state.reason, device.path)
}

/** Whether of no other leg it is durable that it is in sync: a crash would leave this one alone. */
export function isLast(volume: Volume, leg: Leg): boolean {
  const { inSync, announced } = volume
  return inSync.includes(leg) && !inSync.some((one) => one !== leg && announced.has(one))
}

/**
 * `isLast`, of a leg that cannot go on: then another that was about to be in sync has to come back
 * once more, because writes that it alone had would be on no map after a crash.
 */
function standsAlone(volume: Volume, leg: Leg): boolean {
  if (!isLast(volume, leg)) return false
  const why = `${leg.name} failed before it was durable that this one is in sync`
  for (const other of volume.inSync) if (other !== leg) leave(volume, other, 'missing', why)
  return true
}
