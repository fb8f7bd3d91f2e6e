// Generated from schemas/status.schema.json by `npm run schema`; do not edit.

/**
 * The output of `dst status --json` and the answer of `GET /v1/status`. While `version`
 * stays the same, properties may be added, but none is removed or changes its meaning.
 */
export interface Status {
  /**
   * The version of this schema.
   */
  version: 1
  /**
   * Name and version of the program.
   */
  program: string
  /**
   * The number of the process.
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
   * Sentences about changes by commands that the configuration does not have, and about a
   * record of failed flushes in the state directory that cannot be read.
   */
  warnings?: string[]
  /**
   * The addresses where the target listens.
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
   * The devices that are not part of another, by name. The others are inside them.
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
   * Closed because of limits.connections.
   */
  connections: number
  /**
   * Closed because of limits.connectionsPerPeer.
   */
  connectionsPerPeer: number
  /**
   * Closed because the process has too many open files: some are kept for its other work.
   */
  descriptors: number
}
/**
 * A device under a name that clients ask for.
 */
export interface Export {
  /**
   * The device's path in the tree.
   */
  device: string
  readOnly: boolean
  /**
   * A text for people.
   */
  description: string
  /**
   * The URIs of the export, one for each listener.
   */
  uris: string[]
  /**
   * The clients that use the export now.
   */
  clients: Client[]
}
/**
 * A client of an export.
 */
export interface Client {
  protocol: 'dst' | 'nbd'
  /**
   * The address that the client connects from.
   */
  peer: string
  /**
   * The connections of the client's session.
   */
  connections: number
  /**
   * Requests of the client in flight.
   */
  inFlight: number
  /**
   * When the client connected. ISO 8601, in UTC.
   */
  since: string
}
/**
 * A node of the tree.
 */
export interface Device {
  /**
   * The device's place in the tree; for a device with a name, that name.
   */
  path: string
  /**
   * The type in the configuration: file, memory, remote, nbd, linear, mirror, error, delay or
   * log.
   */
  type: string
  /**
   * Bytes; null while the size is not known.
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
   * When the device entered this state. ISO 8601, in UTC.
   */
  since: string
  /**
   * Requests that have not completed.
   */
  inFlight: number
  /**
   * Requests since the start, by operation.
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
   * operation; an operation without requests is left out.
   */
  latency: {
    [k: string]: number
  }
  /**
   * The load of the last few seconds; null or left out while it is not known.
   */
  rate?: Rate | null
  /**
   * The error of the last request that was carried out and failed, not of one that was refused
   * as wrong; null if none failed.
   */
  lastError: Error | null
  /**
   * The abilities of the device; null while they are not known.
   */
  abilities: Abilities | null
  /**
   * Properties of this type of device alone.
   */
  details: {
    [k: string]: unknown
  }
  /**
   * The devices that this one is made of, by their names in it; those of a mirror are in its
   * legs.
   */
  children: {
    [k: string]: Device
  }
  /**
   * The legs of a mirror, by name; other types have none.
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
   * All requests, also those in flight and those that failed.
   */
  operations: number
  /**
   * The bytes of requests that succeeded.
   */
  bytes: number
  /**
   * Requests that failed.
   */
  errors: number
}
/**
 * Requests and bytes per second.
 */
export interface Rate {
  operationsPerSecond: number
  bytesReadPerSecond: number
  bytesWrittenPerSecond: number
}
/**
 * The error of a request.
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
   * The path of the device that failed.
   */
  device: string
  /**
   * When the request failed. ISO 8601, in UTC.
   */
  at?: string
}
/**
 * What a device can do, and how: not at all, by other means, or by itself.
 */
export interface Abilities {
  readOnly: boolean
  /**
   * Bytes; offsets and lengths are multiples of it.
   */
  blockSize: number
  /**
   * Bytes that clients should use as a unit.
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
   * A text that tells this device from any other.
   */
  identity: string
  /**
   * A text that changes when unflushed writes may have been lost.
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
   * A sentence with the times, if this leg takes much longer than another.
   */
  slow?: string
  /**
   * The device of the leg; null when there is none.
   */
  device: Device | null
  [k: string]: unknown
}
