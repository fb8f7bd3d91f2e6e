// Generated from schemas/status.schema.json by `npm run schema`; do not edit.
// The schema says what each property means, and its unit.

/**
 * The output of `dst status --json` and the answer of `GET /v1/status`. While `version`
 * stays the same, properties may be added, but none is removed or changes its meaning.
 */
export interface Status {
  version: 1
  program: string
  pid: number
  startedAt: string
  state: 'healthy' | 'syncing' | 'degraded' | 'failed'
  warnings?: string[]
  listeners: Listener[]
  credentials?: Credential[]
  refused?: Refused
  exports: { [k: string]: Export }
  devices: { [k: string]: Device }
}
/** An address where a protocol is served. */
export interface Listener {
  protocol: 'dst' | 'nbd'
  address: string
  tls?: 'off' | 'allowed' | 'required'
}
/**
 * Certificates or keys for TLS, for one side of connections, or a file of tokens. The state
 * of the target is degraded while there is a problem, and from two weeks before they end.
 */
export interface Credential {
  name: string
  role: 'server' | 'client' | 'tokens'
  problem: string
  readAt: string | null
  notAfter: string | null
}
/** Connections that were closed at once since the start, by the limit that was reached. */
export interface Refused {
  connections: number
  connectionsPerPeer: number
  descriptors: number
}
/** A device under a name that clients ask for. */
export interface Export {
  device: string
  readOnly: boolean
  description: string
  uris: string[]
  clients: Client[]
  limits?: Pace[]
}
/** A client of an export. */
export interface Client {
  protocol: 'dst' | 'nbd'
  peer: string
  identity?: string
  connections: number
  inFlight: number
  since: string
}
/** A limit of the speed of some clients together. */
export interface Pace {
  rule: number | null
  operationsPerSecond: number | null
  operationsBurst: number
  bytesPerSecond: number | null
  bytesBurst: number
  throttled: boolean
  waiting: number
}
/** A node of the tree. */
export interface Device {
  path: string
  type: string
  size: number | null
  state: 'opening' | 'online' | 'degraded' | 'offline' | 'failed' | 'closed'
  reason: string
  since: string
  inFlight: number
  counters: {
    read: Counter
    write: Counter
    flush: Counter
    trim: Counter
    writeZeroes: Counter
    status: Counter
  }
  latency: { [k: string]: number }
  rate?: Rate | null
  lastError: Error | null
  abilities: Abilities | null
  details: { [k: string]: unknown }
  children: { [k: string]: Device }
  legs?: { [k: string]: Leg }
}
/** Requests of one operation. */
export interface Counter {
  operations: number
  bytes: number
  errors: number
}
/** Requests and bytes per second. */
export interface Rate {
  operationsPerSecond: number
  bytesReadPerSecond: number
  bytesWrittenPerSecond: number
}
/** The error of a request. */
export interface Error {
  code: string
  message: string
  device: string
  at?: string
}
/** What a device can do, and how: not at all, by other means, or by itself. */
export interface Abilities {
  readOnly: boolean
  blockSize: number
  preferredBlockSize: number
  payloadMax: number
  flush: 'none' | 'emulated' | 'native'
  fua: 'none' | 'emulated' | 'native'
  trim: 'none' | 'emulated' | 'native'
  writeZeroes: 'none' | 'emulated' | 'native'
  fastZero: boolean
  identity: string
  bootId: string
}
/** A child of a mirror. */
export interface Leg {
  state: 'in-sync' | 'syncing' | 'missing' | 'detached' | 'failed'
  reason?: string
  slow?: string
  device: Device | null
  [k: string]: unknown
}
