import { KiB } from '../base/size.ts'
import type { Facts } from '../device/device.ts'
import { fencingOf } from '../device/facts.ts'
import { describeDifferences, verifiedOf } from './data/differences.ts'
import { legHint, volumeHint } from './hints.ts'
import type { Leg } from './leg.ts'
import type { HistoryEntry } from './record.ts'
import { describeRoom } from './room.ts'
import type { Volume } from './volume.ts'
import { silentMs, waiting, waitMsMin } from './waits.ts'

/**
 * waiting: not started, the reason says for what. starting: about to run. running: served.
 * suspended: no leg in sync answers, and requests wait. failed: a newer head has its legs. closed:
 * for good.
 */
export type VolumeWord = 'waiting' | 'starting' | 'running' | 'suspended' | 'failed' | 'closed'

/** Tells the user of the mirror how it is now, if that has changed. */
export function announce(volume: Volume): void {
  const { host, word, reason } = volume
  if (host === null) return
  if (word === 'running') {
    const unwell = ailing(volume)
    volume.tell(facts(volume), unwell === '' ? 'online' : 'degraded', unwell)
  } else if (word === 'suspended' || (word === 'starting' && volume.told !== null)) {
    const seconds = Math.ceil(volume.settings.suspendMs / 1000)
    const held = `suspended, requests are held for ${seconds} s: ${reason}`
    if (volume.told !== null) volume.tell(volume.told.facts, 'degraded', held)
  } else {
    if (word === 'failed') volume.tellOffline('failed', 'FENCED')
    else volume.tellOffline('offline')
  }
}

/** What the user of the mirror was told last. */
export interface Told {
  readonly facts: Facts
  readonly word: 'online' | 'degraded'
  readonly reason: string
}

/** A text with the legs that are not in sync, or not well; '' when all are. */
function ailing(volume: Volume): string {
  const unwell: string[] = []
  for (const leg of volume.legs) {
    const state = legWord(volume, leg)
    if (state !== 'in-sync') unwell.push(`${leg.name} is ${state}`)
    else if (leg.device.state.word !== 'online')
      unwell.push(`${leg.name} is ${leg.device.state.word}`)
  }
  const differing = volume.record === null ? '' : describeDifferences(volume.record)
  return [...unwell, ...(differing === '' ? [] : [differing])].join(', ')
}

function facts(volume: Volume): Facts {
  const record = volume.record!
  const known = volume.writers.map((leg) => leg.device.facts!)
  const fastZero = known.every((leg) => leg.fastZero)
  const preferred = known.map((leg) => leg.preferredBlockSize)
  return {
    // The bytes that it grew by count once they are zero, and durably so.
    size: record.zeroing?.from ?? record.dataSize,
    blockSize: record.blockSize,
    preferredBlockSize: Math.max(4 * KiB, record.blockSize, ...preferred),
    payloadMax: Math.min(...known.map((leg) => leg.payloadMax)),
    readOnly: false,
    flush: 'native',
    fua: 'native',
    // A trim writes zeroes, so that all legs read alike, and is offered where that is no more work.
    // Once offered it is kept, even if a slow leg joins later.
    trim: fastZero || volume.told?.facts.trim === 'native' ? 'native' : 'none',
    writeZeroes: 'native',
    fastZero,
    status: 'native',
    rotational: known.some((leg) => leg.rotational),
    identity: record.volume,
    bootId: record.bootId,
  }
}

/** The leg's word for `status`. */
export function legWord(volume: Volume, leg: Leg): string {
  if (leg.refusal !== '') return 'failed'
  if (!volume.active && !leg.device.usable) return 'missing'
  const state = leg.member?.state ?? 'missing'
  // Shown as detached only once that is durable.
  return state === 'detached' && volume.held.has(leg) ? 'missing' : state
}

/** The mirror's part of `status`. */
export function describe(volume: Volume): Record<string, unknown> {
  const legs: Record<string, unknown> = {}
  for (const leg of volume.legs) legs[leg.name] = describeLeg(volume, leg)
  const { requests, oldestMs, reason } = waiting(volume)
  return {
    volume: volumeWord(volume),
    reason: volume.running ? '' : volume.reason,
    hint: volumeHint(volume),
    generation: volume.record?.generation.counter ?? 0,
    identity: volume.record?.volume ?? '',
    minInSync: volume.minInSync,
    hotExtents: volume.running ? volume.intent.hotCount : 0,
    waiting: requests,
    waitingSeconds: Math.round(oldestMs / 100) / 10,
    waitingFor: reason,
    verify: volume.verifying?.describe() ?? null,
    ...verifies(volume),
    room: describeRoom(volume),
    looking: volume.looking.describe(),
    legs,
  }
}

/** When legs were last compared and will be next, in wall time, and where they differ. */
function verifies({ record, settings, path }: Volume): Record<string, unknown> {
  if (record === null) return {}
  const { completedAt, countedFrom, differences } = verifiedOf(record)
  const { verifyEveryMs } = settings
  const next = verifyEveryMs === null || countedFrom === 0 ? null : countedFrom + verifyEveryMs
  return {
    verifiedAt: completedAt,
    verifyNextAt: next,
    differences,
    ...(differences.length === 0
      ? {}
      : { differencesHint: `\`dst verify ${path} --repair-from LEG\` makes them equal` }),
  }
}

/** The history, and for a volume that does not run one more entry that says why. */
export function history({ record, word, reason, host }: Volume): readonly HistoryEntry[] {
  const entries = record?.entries ?? []
  if (word === 'running' || word === 'starting' || host === null) return entries
  const now: HistoryEntry = {
    number: (entries.at(-1)?.number ?? 0) + 1,
    at: Math.floor(host.clock.wall()),
    kind: 'start',
    leg: '',
    text: `it is ${word} now: ${reason}`,
    generation: record?.generation.counter ?? 0,
  }
  return [...entries, now]
}

function volumeWord(volume: Volume): string {
  if (!volume.running) return volume.word
  const well = waiting(volume).oldestMs < waitMsMin
  const equal = (volume.record?.verified?.differences ?? []).length === 0
  if (well && equal && volume.legs.every((leg) => legWord(volume, leg) === 'in-sync'))
    return 'healthy'
  return volume.resyncs.size > 0 ? 'syncing' : 'degraded'
}

function legReason(volume: Volume, leg: Leg): string {
  if (leg.refusal !== '') return leg.refusal
  if (!volume.active && legWord(volume, leg) === 'in-sync')
    return 'it was in sync when the volume last ran; the volume does not run now'
  return leg.member?.reason ?? leg.device.state.reason
}

function describeLeg(volume: Volume, leg: Leg): Record<string, unknown> {
  const { member, dirty } = leg
  const resync = volume.resyncs.get(leg)
  const bytes = dirty?.bytes ?? 0
  return {
    state: legWord(volume, leg),
    reason: legReason(volume, leg),
    hint: legHint(volume, leg, legWord(volume, leg)),
    since: member?.since ?? leg.device.state.since,
    readLast: leg.readLast,
    fencing: fencingOf([leg.device.driver]),
    bytesOutOfSync: Math.min(bytes, volume.record?.dataSize ?? 0),
    pending: leg.pending,
    silentSeconds: Math.round(silentMs(volume, leg) / 100) / 10,
    ...(member?.label === null || member === null ? {} : { label: member.label }),
    ...(member?.state === 'detached' ? { generation: member.left?.counter ?? 0 } : {}),
    ...(resync === undefined ? {} : { resync: resync.describe() }),
  }
}
