import type { Code } from '../base/errors.ts'

/** What a leg answers that cannot be reached, rather than broken. */
export const unreachableCodes: ReadonlySet<Code> = new Set([
  'UNAVAILABLE',
  'STALE',
  'TIMEOUT',
  'SHUTDOWN',
  'PROTOCOL',
])
