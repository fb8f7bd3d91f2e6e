import { networkInterfaces } from 'node:os'
import type { StorageError } from '../base/errors.ts'
import type { Address } from '../net/address.ts'

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

/** The address that clients connect to: for a listener on `0.0.0.0`, one of this machine. */
export function reachable(address: Address): Address {
  if (address.kind === 'unix' || !['0.0.0.0', '::'].includes(address.host)) return address
  const family = address.host === '::' ? 'IPv6' : 'IPv4'
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? [])
  const outer = all.find((each) => !each.internal && each.family === family && !each.scopeid)
  return { ...address, host: outer?.address ?? (family === 'IPv6' ? '::1' : '127.0.0.1') }
}
