import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Slab } from '../base/slab.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import type { Audit } from './audit.ts'
import type { Claims } from './claims.ts'
import type { Entrance } from './export.ts'
import type { Admission } from './admission.ts'
import type { Limits } from './limits.ts'
import type { Places } from './places.ts'

/** What a target hands to the server of each protocol. */
export interface ServiceContext {
  readonly admission: Admission
  readonly slab: Slab
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly limits: Limits
  /** Shared by the servers of all protocols; absent where there is but one. */
  readonly places?: Places
  /** Which heads have claimed the devices: the same for the clients of every protocol. */
  readonly claims: Claims
  /** Absent: none is kept. */
  readonly audit?: Audit | undefined
}

/** One client, as `status` shows it. */
export interface ClientStatus {
  readonly protocol: 'dst' | 'nbd'
  /** Where it connects from. */
  readonly peer: string
  /** What it has proven by TLS, such as `psk:alice`; '' without TLS. */
  readonly identity: string
  /** The export it uses; null while it negotiates. */
  readonly export: string | null
  readonly connections: number
  readonly inFlight: number
  /** Wall clock, milliseconds. */
  readonly since: number
}

/** The server of one protocol, on any number of listeners. */
export interface Service {
  /** Takes a client in that came by this way. Never throws; null when a limit is reached. */
  accept(connection: Connection, entrance: Entrance): ConnectionHandler | null
  clients(): readonly ClientStatus[]
  /** Rules have changed: who has other rights now is let go after what is in flight. */
  recheck(): void
  /**
   * Takes no new requests, answers those in flight, then closes every connection. Resolves when
   * that is done; a deadline is the caller's.
   */
  drain(): Promise<void>
  /** Closes every connection at once. */
  destroy(): void
}
