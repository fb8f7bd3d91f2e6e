import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

/** Ticks in one `legTimeoutMs`: a leg is found silent at most an eighth later. */
export const ticksPerTimeout = 8

/** Milliseconds after which a request counts as waiting rather than as being carried out. */
export const waitMsMin = 1000

/** Requests of clients that are held up, and the reason. */
export interface Waiting {
  readonly requests: number
  /** Milliseconds that the oldest request has waited; 0 when none waits. */
  readonly oldestMs: number
  /** A sentence; '' when none waits. */
  readonly reason: string
}

/** Milliseconds that the leg has owed an answer; 0 below `waitMsMin`. */
export function silentMs(volume: Volume, leg: Leg): number {
  const waited = (leg.oldestTicks * volume.settings.legTimeoutMs) / ticksPerTimeout
  return waited >= waitMsMin ? waited : 0
}

/** The clients' requests that are parked, or wait for a leg. */
export function waiting(volume: Volume): Waiting {
  const { parking, short, writers, heldUpBy: reason } = volume
  const waits: Waiting[] = []
  if (parking.length > 0)
    waits.push({ requests: parking.length, oldestMs: parking.oldestMs, reason })
  if (short.length > 0) waits.push({ requests: short.length, oldestMs: short.oldestMs, reason })
  for (const leg of writers) {
    const oldestMs = silentMs(volume, leg)
    if (oldestMs > 0) waits.push({ requests: leg.pending, oldestMs, reason: `${leg.name} is slow` })
  }
  waits.sort((one, other) => other.oldestMs - one.oldestMs)
  return {
    requests: waits.reduce((sum, { requests }) => sum + requests, 0),
    oldestMs: waits[0]?.oldestMs ?? 0,
    reason: waits[0]?.reason ?? '',
  }
}
