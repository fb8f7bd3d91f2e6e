import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Slab } from '../base/slab.ts'
import type { Network } from '../net/network.ts'
import type { Credentials } from './credentials.ts'

/** The time, chance, network, memory and log that devices use. */
export interface World {
  readonly clock: Clock
  readonly random: Random
  readonly network: Network
  readonly slab: Slab
  readonly log: Log
  /** Certificates and keys for TLS; absent where there is none, as in a simulation. */
  readonly credentials?: Credentials
  /** The log for layers that log each request, whose lines are not folded. Absent: `log`. */
  readonly requestLog?: Log
}

/** The place of a device in the tree. */
export interface Spot {
  readonly path: string
  /** The leg that the device is, or is a part of; null outside mirrors. */
  readonly leg: LegSpot | null
}

/** A leg of a volume, as the head's own record knows it. */
export interface LegSpot {
  readonly volume: string
  readonly name: string
}
