import { parseDuration } from '../base/duration.ts'
import { assert } from '../base/errors.ts'
import { parseSize } from '../base/size.ts'
import { ownerOnly, parseMode, type SocketAccess } from '../net/access.ts'
import type { Limits } from '../export/limits.ts'
import type { Rates } from '../export/pace.ts'
import type * as config from './config.types.ts'

/** The limits of a configuration that was checked, in bytes and milliseconds. */
export function limitsOf(limits: config.Limits): Limits {
  return {
    connections: limits.connections,
    connectionsPerPeer: limits.connectionsPerPeer,
    handshakeTimeout: milliseconds(limits.handshakeTimeout),
    sendTimeout: milliseconds(limits.sendTimeout),
    keepAlive: milliseconds(limits.keepAlive),
    requestsPerConnection: limits.requestsPerConnection,
    bytesPerConnection: bytes(limits.bytesPerConnection),
    bytesInFlight: bytes(limits.bytesInFlight),
    payload: bytes(limits.payload),
  }
}

/** The rates of limits that were checked; a burst that is left out is what a second brings. */
export function ratesOf(limits: config.Pace | undefined): Rates {
  const { operationsPerSecond = null, operationsBurst } = limits ?? {}
  const bytesPerSecond = limits?.bytesPerSecond === undefined ? null : bytes(limits.bytesPerSecond)
  const bytesBurst = limits?.bytesBurst === undefined ? bytesPerSecond : bytes(limits.bytesBurst)
  return {
    operationsPerSecond,
    operationsBurst: operationsBurst ?? operationsPerSecond ?? 1,
    bytesPerSecond,
    bytesBurst: bytesBurst ?? 1,
  }
}

/** The access to a unix socket, from rights that were checked. */
export function accessOf(rights: Pick<config.Listener, 'mode' | 'owner' | 'group'>): SocketAccess {
  const { mode, owner = null, group = null } = rights
  return { mode: mode === undefined ? ownerOnly.mode : parseMode(mode)!, owner, group }
}

/** Bytes of a size in a configuration that may be wrong; null for anything else. */
export function sizeOf(value: unknown): number | null {
  return typeof value === 'string' || typeof value === 'number' ? parseSize(value) : null
}

/** Milliseconds of a duration in a configuration that may be wrong; null for anything else. */
export function durationOf(value: unknown): number | null {
  return typeof value === 'string' || typeof value === 'number' ? parseDuration(value) : null
}

/** Bytes of a size that was checked. */
export function bytes(size: string | number): number {
  const parsed = parseSize(size)
  assert(parsed !== null, `${size} is a size`)
  return parsed
}

/** Milliseconds of a duration that was checked. */
export function milliseconds(duration: string | number): number {
  const parsed = parseDuration(duration)
  assert(parsed !== null, `${duration} is a duration`)
  return parsed
}
