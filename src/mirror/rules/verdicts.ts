import type { Code } from '../../base/errors.ts'
import type { LegState } from '../record.ts'

/** Decides from plain values what is to become of a leg: no clock, no device, nothing awaited. */

/**
 * Whether it is durable of other legs that they are in sync. It is not of the last so far, but
 * another leg is about to be: any moment that may be durable, and a start may go by the other.
 */
export type Standing = 'one-of-several' | 'last-so-far' | 'last'

/** Codes with which a leg does not answer, or has restarted: it is not broken. */
export const unreachable: ReadonlySet<Code> = new Set([
  'UNAVAILABLE',
  'STALE',
  'TIMEOUT',
  'SHUTDOWN',
  'PROTOCOL',
])

/** The state of a leg that leaves because of an error with this code. */
export function wordFor(code: Code): LegState {
  return unreachable.has(code) ? 'missing' : 'failed'
}

/** The operation that a leg failed. */
export type Failed = 'write' | 'flush' | 'metadata'

/**
 * leave: the leg takes no further part, the others go on. suspend: the run ends, and the volume
 * starts anew from what is there. tell: the leg stays, and the client gets the error.
 */
export type Verdict = 'leave' | 'suspend' | 'tell'

/**
 * Decides on a request that failed. A last leg that cannot be reached is waited for. If it cannot
 * write metadata it cannot go on, because the next write may have to be in the log. Nor can the
 * last so far: the other leg may have what this one failed, and be read after a crash.
 */
export function onFailure(what: Failed, code: Code, standing: Standing): Verdict {
  if (standing === 'one-of-several') return 'leave'
  const ends = what === 'metadata' || unreachable.has(code) || standing === 'last-so-far'
  return ends ? 'suspend' : 'tell'
}

/**
 * Decides on a leg that lost its cache. `lost`: the leg had acknowledged, or was being given,
 * writes that it had not flushed. Where no other leg has these they are gone, and another boot id
 * of the volume tells clients. A write under way may then no longer be acknowledged, because
 * nothing would tell of its loss: the run ends, and the start fails the write. The run ends as well
 * where another leg is about to be in sync, which may have what was lost.
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
