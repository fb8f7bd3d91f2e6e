// Generated from schemas/status.schema.json by `npm run schema`; do not edit.

/**
 * What `dst status --json` prints and `GET /v1/status` answers. Properties are added, never
 * taken away or given another meaning, while `version` stays.
 */
export interface Status {
  /**
   * Of this schema.
   */
  version: 1
  /**
   * Name and version of the program.
   */
  program: string
  /**
   * The process.
   */
  pid: number
  /**
   * When the target was started. ISO 8601, in UTC.
   */
  startedAt: string
  /**
   * The worst of all devices. healthy: everything is well. syncing: a leg of a mirror is
   * catching up. degraded: everything answers, with less safety. failed: a device does not
   * answer.
   */
  state: 'healthy' | 'syncing' | 'degraded' | 'failed'
  /**
   * A sentence each: what a command changed and the configuration does not say, and that what
   * the state directory had of failed flushes cannot be read.
   */
  warnings?: string[]
  /**
   * Where the target listens.
   */
  listeners: Listener[]
  refused?: Refused
  /**
   * The exports, by name.
   */
  exports: {
    [k: string]: Export
  }
  /**
   * The devices that are part of no other, by name. The others are inside.
   */
  devices: {
    [k: string]: Device
  }
}
/**
 * An address where a protocol is served.
 */
export interface Listener {
  protocol: 'dst' | 'nbd'
  /**
   * HOST:PORT or unix:PATH, with the port that was chosen for 0.
   */
  address: string
}
/**
 * Connections that were closed at once since the start, by the limit that was reached.
 */
export interface Refused {
  /**
   * limits.connections.
   */
  connections: number
  /**
   * limits.connectionsPerPeer.
   */
  connectionsPerPeer: number
  /**
   * Open files of the process: some of those that it may have are kept back.
   */
  descriptors: number
}
/**
 * A device under a name that clients ask for.
 */
export interface Export {
  /**
   * Its path in the tree.
   */
  device: string
  readOnly: boolean
  /**
   * For people.
   */
  description: string
  /**
   * By which clients attach it, one for each listener.
   */
  uris: string[]
  /**
   * Who uses it now.
   */
  clients: Client[]
}
/**
 * A client of an export.
 */
export interface Client {
  protocol: 'dst' | 'nbd'
  /**
   * Where it connects from.
   */
  peer: string
  /**
   * Of its session.
   */
  connections: number
  /**
   * Requests that it waits for.
   */
  inFlight: number
  /**
   * When it connected. ISO 8601, in UTC.
   */
  since: string
}
/**
 * A node of the tree.
 */
export interface Device {
  /**
   * Its place in the tree; for a device with a name, that name.
   */
  path: string
  /**
   * As in the configuration: file, memory, remote, nbd, linear, mirror, error, delay, log.
   */
  type: string
  /**
   * Bytes; null while nobody knows.
   */
  size: number | null
  /**
   * opening: never reachable so far. online: takes requests. degraded: takes requests with
   * less safety, or holds them for a while. offline: does not answer, comes back by itself.
   * failed: needs an operator. closed: stopped.
   */
  state: 'opening' | 'online' | 'degraded' | 'offline' | 'failed' | 'closed'
  /**
   * A sentence; empty when all is well.
   */
  reason: string
  /**
   * When it entered this state. ISO 8601, in UTC.
   */
  since: string
  /**
   * Requests that have not completed.
   */
  inFlight: number
  /**
   * Since the start, by operation.
   */
  counters: {
    read: Counter
    write: Counter
    flush: Counter
    trim: Counter
    writeZeroes: Counter
    status: Counter
  }
  /**
   * Milliseconds that requests took in the last minute, smoothed over a few of them, by
   * operation; an operation of which there was none is left out.
   */
  latency: {
    [k: string]: number
  }
  /**
   * What it did in the last few seconds; null or left out while that is not known.
   */
  rate?: Rate | null
  /**
   * The last request that was carried out and failed, not one that was refused because of what
   * it asked for; null if none did.
   */
  lastError: Error | null
  /**
   * What it can do; null while nobody knows.
   */
  abilities: Abilities | null
  /**
   * What only this type of device has to say.
   */
  details: {
    [k: string]: unknown
  }
  /**
   * The devices it is made of, by what it calls them; those of a mirror are in its legs.
   */
  children: {
    [k: string]: Device
  }
  /**
   * Only of a mirror: its legs, by name.
   */
  legs?: {
    [k: string]: Leg
  }
}
/**
 * Requests of one operation.
 */
export interface Counter {
  /**
   * All, with those in flight and those that failed.
   */
  operations: number
  /**
   * Of those that succeeded.
   */
  bytes: number
  /**
   * Those that failed.
   */
  errors: number
}
/**
 * Requests and bytes in a second.
 */
export interface Rate {
  operationsPerSecond: number
  bytesReadPerSecond: number
  bytesWrittenPerSecond: number
}
/**
 * Why a request failed.
 */
export interface Error {
  /**
   * From a closed set: IO, NO_SPACE, UNAVAILABLE and so on.
   */
  code: string
  /**
   * A sentence.
   */
  message: string
  /**
   * Path of the device to blame.
   */
  device: string
  /**
   * When it happened, in ISO 8601.
   */
  at?: string
}
/**
 * What a device can do, and how: not at all, by other means, or by itself.
 */
export interface Abilities {
  readOnly: boolean
  /**
   * Offsets and lengths are multiples of so many bytes.
   */
  blockSize: number
  /**
   * Bytes.
   */
  preferredBlockSize: number
  /**
   * Bytes of the longest read or write that is not split.
   */
  payloadMax: number
  flush: 'none' | 'emulated' | 'native'
  fua: 'none' | 'emulated' | 'native'
  trim: 'none' | 'emulated' | 'native'
  writeZeroes: 'none' | 'emulated' | 'native'
  fastZero: boolean
  /**
   * Tells this device from any other.
   */
  identity: string
  /**
   * Changes when what was not flushed may have been lost.
   */
  bootId: string
}
/**
 * A child of a mirror.
 */
export interface Leg {
  state: 'in-sync' | 'syncing' | 'missing' | 'detached' | 'failed'
  /**
   * A sentence; empty when all is well.
   */
  reason?: string
  /**
   * Of a leg that takes much longer than the others: a sentence with its time and theirs.
   */
  slow?: string
  /**
   * null when nothing is there.
   */
  device: Device | null
  [k: string]: unknown
}
