import { Bitmap } from '../base/bitmap.ts'
import { StorageError, type Code } from '../base/errors.ts'
import { announce } from './announce.ts'
import { DirtyMap } from './dirty-map.ts'
import type { Leg } from './leg.ts'
import { loseWrites } from './losses.ts'
import { reasonMax, type LegState } from './record.ts'
import type { Volume } from './volume.ts'

/** What a leg answers that is away, rather than broken. */
export const away: ReadonlySet<Code> = new Set([
  'UNAVAILABLE',
  'STALE',
  'TIMEOUT',
  'SHUTDOWN',
  'PROTOCOL',
])

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
  const { intent, extents } = volume
  const dirty = (leg.dirty ??= new DirtyMap(extents))
  const unflushed = (leg.unflushed ??= new Bitmap(extents))
  if (!wasInSync) dirty.forgetCopies()
  intent.forEachInFlight((extent) => {
    dirty.set(extent)
  })
  intent.forEachSince(leg.flushedMoment, (extent) => {
    unflushed.set(extent)
  })
  if (forgets) {
    dirty.merge(unflushed)
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
  member.state = state
  member.reason = reason.slice(0, reasonMax)
  member.since = Math.floor(volume.clock.wall())
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

/** Whether the leg left, or had; false when it is the last one and the client must be told. */
export function writeFailed(volume: Volume, leg: Leg, error: StorageError): boolean {
  if (fenced(volume, error) || !volume.writers.includes(leg)) return true
  if (standsAlone(volume, leg)) {
    if (!away.has(error.code)) return false
    volume.suspend(`${leg.name}: ${error.message}`)
    return true
  }
  leave(volume, leg, wordFor(error), error.message)
  return true
}

/** Like `writeFailed`. What the leg has not flushed must be taken for lost. */
export function flushFailed(volume: Volume, leg: Leg, error: StorageError): boolean {
  if (fenced(volume, error) || !volume.writers.includes(leg)) return true
  if (standsAlone(volume, leg)) {
    if (!away.has(error.code) || error.code === 'STALE') {
      distrustOthers(volume, leg)
      return false
    }
    volume.suspend(`${leg.name}: ${error.message}`)
    return true
  }
  leave(volume, leg, wordFor(error), `flush: ${error.message}`, true)
  return true
}

export function metadataFailed(volume: Volume, leg: Leg, error: StorageError): void {
  if (fenced(volume, error) || !volume.keepers.includes(leg)) return
  if (standsAlone(volume, leg)) volume.suspend(`metadata of ${leg.name}: ${error.message}`)
  else leave(volume, leg, wordFor(error), `metadata: ${error.message}`)
}

/** Whether what the leg could not read is to be written to it again. */
export function readFailed(volume: Volume, leg: Leg, error: StorageError): boolean {
  if (fenced(volume, error) || !volume.writers.includes(leg)) return false
  if (!away.has(error.code)) {
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
  } else if (device.facts!.bootId !== leg.bootId) rebooted(volume, leg)
  else {
    volume.regroup()
    if (leg.endNow > leg.end) volume.onGrown()
  }
}

/** The leg is there, and has lost what it had not flushed. */
function rebooted(volume: Volume, leg: Leg): void {
  const unflushed = volume.intent.hasSince(leg.flushedMoment)
  const { reason: why } = leg.device.state
  const reason = `it lost what was not flushed: ${why === '' ? 'its target restarted' : why}`
  if (unflushed && !standsAlone(volume, leg)) {
    leave(volume, leg, 'missing', reason, true)
    return
  }
  leg.adopt()
  if (leg.dirty !== null) leg.dirty.forgetCopies()
  if (unflushed) {
    distrustOthers(volume, leg)
    loseWrites(volume)
    volume.remember('membership', leg.name, `${reason}, and no other leg has it`)
  }
  volume.membership.request(false)
  volume.regroup()
}

/**
 * The last leg may have lost what it had not flushed. It stays what the volume says; whoever has
 * those writes all the same differs from it, and copies them back.
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

function wordFor(error: StorageError): LegState {
  return away.has(error.code) ? 'missing' : 'failed'
}
