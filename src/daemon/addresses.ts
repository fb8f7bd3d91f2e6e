import type { StorageError } from '../base/errors.ts'

/**
 * Errors of the operating system for an address that the machine does not have yet, while it boots
 * or its network comes up, and for what it lacks only now and then.
 */
const passing: ReadonlySet<unknown> = new Set([
  'EADDRNOTAVAIL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'EAI_NODATA',
  'EAI_NONAME',
  'ENETDOWN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'ENODEV',
  'ENXIO',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOBUFS',
])

/** True if an address that cannot be listened on now may be had later, without an operator. */
export function passesByItself({ cause }: StorageError): boolean {
  return passing.has((cause as { code?: unknown } | null | undefined)?.code)
}
