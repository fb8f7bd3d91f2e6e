import type { Code } from '../../base/errors.ts'
import type { LegState } from '../record.ts'

/**
 * What is to become of a leg, decided from plain values: no clock, no device, nothing awaited.
 */

/**
 * Of a leg: whether there are others of which it is durable that they are in sync. Of the last so
 * far it may be durable any moment that another one is, and a start may go by that one.
 */
export type Standing = 'one-of-several' | 'last-so-far' | 'last'

/** Codes of a leg that does not answer, or that has restarted: it is not broken. */
export const unreachable: ReadonlySet<Code> = new Set([
  'UNAVAILABLE',
  'STALE',
  'TIMEOUT',
  'SHUTDOWN',
  'PROTOCOL',
])

/** The last word on a leg that leaves so. */
export function wordFor(code: Code): LegState {
  return unreachable.has(code) ? 'missing' : 'failed'
}

/** What a leg failed at. */
export type Failed = 'write' | 'flush' | 'metadata'

/**
 * leave: the leg takes part no longer, the others go on. suspend: the run ends, and the volume
 * starts anew from what is there. tell: the leg stays, the client gets the error.
 */
export type Verdict = 'leave' | 'suspend' | 'tell'

/**
 * Of a request that failed. A last leg that cannot be reached is waited for; one that cannot write
 * metadata cannot go on, because the next write may have to be in the log. Nor can the last so far:
 * the other may have what this one failed, and be what is read after a crash.
 */
export function onFailure(what: Failed, code: Code, standing: Standing): Verdict {
  if (standing === 'one-of-several') return 'leave'
  const ends = what === 'metadata' || unreachable.has(code) || standing === 'last-so-far'
  return ends ? 'suspend' : 'tell'
}

/**
 * Of a leg that lost its cache. `lost`: it had acknowledged, or was being given, what it had not
 * flushed. Where no other leg has that, it is gone, and clients are told by another boot id of the
 * volume. What is not acknowledged yet may then not be acknowledged any more, and would be told by
 * nothing: where a write is under way, the run ends, and the start fails it. It ends as well where
 * another leg is about to be in sync, which may have what was lost.
 */
export function onCacheLoss({
  lost,
  standing,
  writing,
}: {
  readonly lost: boolean
  readonly standing: Standing
  readonly writing: boolean
}): 'stay' | 'leave' | 'tell' | 'suspend' {
  if (!lost) return 'stay'
  if (standing === 'one-of-several') return 'leave'
  return writing || standing === 'last-so-far' ? 'suspend' : 'tell'
}
