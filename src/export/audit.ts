import { provenName } from '../net/identity.ts'
import type { Connection } from '../net/network.ts'
import type { Export } from './export.ts'
import type { Right } from './rights.ts'

/** What an audit log tells. */
export type AuditKind =
  /** The target begins and ends. */
  | 'start'
  | 'stop'
  /** A client uses an export; it does no more. */
  | 'connect'
  | 'disconnect'
  /** A client, or who would give commands, was turned away. */
  | 'refuse'
  /** A head has claimed a device, or was refused that, or has given it up. */
  | 'claim'
  /** A head was outbid by another one. */
  | 'fence'
  /** The rules of exports were read again, or could not be. */
  | 'rules'
  /** An operator gave a command; it was carried out, or failed. */
  | 'command'
  | 'commandEnd'

/** One event. It holds no secret, and what a peer has chosen is cut short in it. */
export interface AuditEvent {
  readonly event: AuditKind
  /** Where it comes from. */
  readonly peer?: string
  /** What the peer has proven; absent without a proof. */
  readonly identity?: string
  readonly export?: string
  /** Why it was refused, or ended. */
  readonly reason?: string
  readonly [name: string]: unknown
}

/** Notes an event for those who later ask who did what. Never throws, and nothing waits for it. */
export type Audit = (event: AuditEvent) => void

/** Characters of a text by a peer that are kept. */
const textMax = 200

/** A text that a peer may have chosen, cut short. */
export function cutShort(text: string): string {
  return text.length > textMax ? `${text.slice(0, textMax)}…` : text
}

/** Who is behind a connection. */
export function callerOf({ peer, identity }: Pick<Connection, 'peer' | 'identity'>) {
  const name = provenName(identity)
  return name === '' ? { peer } : { peer, identity: cutShort(name) }
}

/** What a client may do with an export that it uses. */
export function rightsIn({ readOnly, mayClaim }: Export): readonly Right[] {
  if (readOnly) return ['read']
  return mayClaim ? ['read', 'write', 'claim'] : ['read', 'write']
}
