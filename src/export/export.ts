import type { Device } from '../device/device.ts'
import type { Identity } from '../net/identity.ts'
import type { TlsSide } from '../net/tls/side.ts'
import type { Pace } from './pace.ts'

/** A device under a name that clients ask for, with the rights of the client that sees it. */
export interface Export {
  readonly name: string
  readonly device: Device
  /** Writes are refused whatever the device could do. */
  readonly readOnly: boolean
  /** Whether the client may claim the device as the head of a mirror. */
  readonly mayClaim: boolean
  readonly description: string
}

/** The exports that a client sees: to it there are no others. */
export interface Exports {
  /** The export that the client may use; the same object each time. */
  find(name: string): Export | undefined
  /** The exports that the client may see in a list. */
  list(): readonly Export[]
}

/** What a listener does about TLS: clients may have it, or may not go without it. */
export interface EntranceTls {
  readonly mode: 'allowed' | 'required'
  readonly side: TlsSide
}

/** The way in for the clients of a listener. */
export interface Entrance {
  /** Absent: there is no TLS. */
  readonly tls?: EntranceTls
  /**
   * What a client sees by its identity, which TLS may change: ask again after that. Clients with
   * the same rights get the same object.
   */
  seenBy(identity: Identity): Exports
  /** How fast a client may go with the export of a name. Absent: as fast as can be. */
  paceOf?(identity: Identity, name: string): Pace | null
}
