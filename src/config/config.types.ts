// Generated from schemas/config.schema.json by `npm run schema`; do not edit.
// The schema says what each property means, and its unit.

/** Permissions as chmod has them: three octal digits, such as "0660". */
export type Mode = string
/** The name or the number of a user or group. */
export type Account = string
/**
 * A name of an export: at most 1024 characters, none of them a control character or half of
 * another one.
 */
export type ExportName = string
/** A name: letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit. */
export type Name = string
/**
 * A node of the tree, with a size, that takes requests. The other properties depend on its
 * type.
 */
export type Device =
  File | Memory | Remote | Nbd | Linear | Mirror | Crypt | Error | Delay | LogLayer
/** Bytes: an integer, or a number followed by K, M, G, T or P (powers of 1024). */
export type Size = number | string
/** A time: an integer of milliseconds, or a number followed by ms, s, m or h. */
export type Duration = number | string
/** A time above zero: an integer of milliseconds, or a number followed by ms, s, m or h. */
export type Period = number | string
/** A device written in place, or the name of one in devices. */
export type Child = string | Device
/**
 * A child of a mirror: a device in place, the name of a device, or an object with the device
 * and options.
 */
export type Leg = string | LegOptions | Child
/** Some of the operations of a device. */
export type Operations = ('read' | 'write' | 'flush' | 'trim' | 'writeZeroes' | 'status')[]

/**
 * What one target serves: devices, the exports that give clients access to them, and the
 * listeners where clients connect. Relative paths are relative to the directory of the file
 * that names them.
 */
export interface Config {
  $schema?: string
  listeners: Listener[]
  management?: Management[] | Management
  files?: Files
  credentials: { [k: string]: Credential }
  devices: { [k: string]: Device }
  exports: { [k: string]: Export }
  limits: Limits
  state: State
  log: Log
  audit?: Audit
}
/** An address where a protocol is served. */
export interface Listener {
  protocol: 'dst' | 'nbd'
  address: string
  mode?: Mode
  owner?: Account
  group?: Account
  exports?: ExportName[]
  tls?: 'off' | 'allowed' | 'required'
  credentials?: Name
  open: boolean
}
/**
 * A place where the running target is managed. A unix socket is for its owner alone unless
 * mode says otherwise. A TCP address asks nothing of anybody unless it has rules or tokens;
 * one that other machines reach needs TLS and one of those. See docs/management.md.
 */
export interface Management {
  address: string
  mode?: Mode
  owner?: Account
  group?: Account
  credentials?: Name
  allow?: ManagementRule[]
  tokens?: string
  open: boolean
}
/** What a client may do with the target. All that is said of the client has to be true of it. */
export interface ManagementRule {
  certificate?: {
    uri?: string
    dns?: string
    commonName?: string
    fingerprint?: string
  }
  address?: string
  role: 'view' | 'manage'
}
/**
 * Files that commands may let the running target open or make, such as those of a new leg,
 * sockets of remotes, and the files that a fault layer looks for.
 */
export interface Files {
  allow: string[]
}
/**
 * Files for TLS, in one of two kinds: certificates, or psk, a file of keys that both sides
 * know.
 */
export interface Credential {
  certificates?: string
  certificate?: string
  key?: string
  authority?: string
  revoked?: string
  psk?: string
  user?: string
  minVersion: '1.2' | '1.3'
}
/** A regular file or a block device. */
export interface File {
  type: 'file'
  path: string
  size?: Size
  create: boolean
  grow: boolean
  direct: boolean
  readOnly: boolean
}
/**
 * A sparse disk in memory, empty after every start. It takes memory only for what was
 * written.
 */
export interface Memory {
  type: 'memory'
  size: Size
}
/** An export of another target, over DST/1. Its size and abilities are learnt from it. */
export interface Remote {
  type: 'remote'
  uri: string
  credentials?: Name
  connections: number
  hold?: Duration
  connectTimeout: Period
  pingInterval?: Period
  pingTimeout?: Period
  requestTimeout: Duration
  checksums: boolean
  size?: Size
}
/**
 * An export of any NBD server. Its size and abilities are learnt from it. NBD cannot say
 * that a server has restarted, so writes that a lost connection left unanswered fail.
 */
export interface Nbd {
  type: 'nbd'
  uri: string
  credentials?: Name
  connections: number
  hold?: Duration
  connectTimeout: Period
  requestTimeout: Period
  quiesce: Duration
  size?: Size
}
/**
 * Devices one after the other: the first byte of each follows the last byte of the one
 * before.
 */
export interface Linear {
  type: 'linear'
  parts: Child[]
}
/**
 * A volume: the same bytes on every leg. Writes go to all, reads to one. A leg that fails
 * leaves, and catches up when it returns. Each leg keeps metadata at its end, so the volume
 * is a little smaller than its smallest leg.
 */
export interface Mirror {
  type: 'mirror'
  legs: { [k: string]: Leg }
  size?: Size
  source?: string
  minInSync: number
  extentSize: Size
  intentLog: boolean
  hotExtents: number
  intentIdle: Duration
  legTimeout: Period
  legRetry: Period
  legRetryMax: Period
  suspend: Suspend
  resync: Resync
  verify?: Verify
  historySize: number
}
/** A leg with options. */
export interface LegOptions {
  device: Child
  readLast: boolean
}
/** Requests that wait while no leg of a mirror, or too few, can take them. */
export interface Suspend {
  time: Duration
  requests: number
  bytes: Size
}
/** How a leg of a mirror is filled or catches up. Clients come first. */
export interface Resync {
  latency: Duration
  speed?: Size
  window: number
  chunk: Size
  checkpoint: Size
  checkpointTime: Duration
  memory: Size
}
/**
 * The times when the legs of a mirror are compared without a command. Clients come first:
 * resync.latency holds for it as well.
 */
export interface Verify {
  every: Period
  speed?: Size
}
/** A layer that encrypts: LUKS with AES-XTS, as `dst crypt format` makes it. */
export interface Crypt {
  type: 'crypt'
  device: Child
  key: string
  discard: boolean
}
/** A fault layer: fails some requests and passes on the others. */
export interface Error {
  type: 'error'
  device: Child
  operations?: Operations
  range?: {
    offset: Size
    length: Size
  }
  probability?: number
  whileFileExists?: string
  code: 'IO' | 'NO_SPACE' | 'READ_ONLY' | 'UNAVAILABLE' | 'TIMEOUT' | 'STALE' | 'BUSY'
}
/**
 * A fault layer: holds each request for a while before it passes it on; requests may
 * overtake one another.
 */
export interface Delay {
  type: 'delay'
  device: Child
  operations?: Operations
  min: Duration
  max?: Duration
}
/** A layer that logs a line for every request. For a short examination, not for production. */
export interface LogLayer {
  type: 'log'
  device: Child
  operations?: Operations
  level: 'debug' | 'info'
}
/** A device under a name that clients ask for. */
export interface Export {
  device: string
  readOnly: boolean
  description: string
  allow?: Rule[]
  limits?: Pace
}
/** What a client may do with an export. All that is said of the client has to be true of it. */
export interface Rule {
  psk?: string
  certificate?: {
    uri?: string
    dns?: string
    commonName?: string
    fingerprint?: string
  }
  address?: string
  unix?: true
  may: ('read' | 'write' | 'claim' | 'list')[]
  limits?: Pace
}
/**
 * Limits of reads, writes, trims and zeroes. Requests beyond them wait, in the order in
 * which they came. A limit is shared by all connections that it is for, as a throttle group
 * of QEMU is. See docs/security.md.
 */
export interface Pace {
  operationsPerSecond?: number
  operationsBurst?: number
  bytesPerSecond?: Size
  bytesBurst?: Size
}
/** Limits on what clients use. Together they bound the memory of the process. */
export interface Limits {
  connections: number
  connectionsPerPeer: number
  handshakeTimeout: Period
  handshakesPerSecond: number
  sendTimeout: Period
  keepAlive: Period
  requestsPerConnection: number
  bytesPerConnection: Size
  bytesInFlight: Size
  payload: Size
  stopTimeout: Duration
}
/**
 * The records that the target keeps between runs: for each mirror, the last generation and
 * its members; for each device, the head of a mirror that has claimed it over DST/1.
 */
export interface State {
  directory: string
}
/** The log on standard error: JSON, one line per event, none per request. */
export interface Log {
  level: 'debug' | 'info' | 'warn' | 'error'
}
/**
 * A file with a line for each event that tells who did what: who used an export with which
 * rights, or was refused and why, claims of heads, and commands with who gave them. JSON, as
 * the log. Left out: no such file. See docs/security.md.
 */
export interface Audit {
  path: string
  mode: Mode
}
