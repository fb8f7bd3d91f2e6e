// Generated from schemas/config.schema.json by `npm run schema`; do not edit.

/**
 * A node of the tree, with a size, that takes requests. The other properties depend on its
 * type.
 */
export type Device = File | Memory | Remote | Nbd | Linear | Mirror | Error | Delay | LogLayer
/**
 * A device written in place, or the name of one in devices.
 */
export type Child = string | Device
/**
 * A child of a mirror: a device in place, the name of a device, or an object with the device
 * and options.
 */
export type Leg = string | LegOptions | Child
/**
 * Which operations fail. Left out: all.
 *
 * @minItems 1
 */
export type Operations = ('read' | 'write' | 'flush' | 'trim' | 'writeZeroes' | 'status')[]
/**
 * Which operations are held. Left out: all.
 *
 * @minItems 1
 */
export type Operations1 = ('read' | 'write' | 'flush' | 'trim' | 'writeZeroes' | 'status')[]
/**
 * Which operations are logged. Left out: all.
 *
 * @minItems 1
 */
export type Operations2 = ('read' | 'write' | 'flush' | 'trim' | 'writeZeroes' | 'status')[]

/**
 * What one target serves: devices, the exports that give clients access to them, and the
 * listeners where clients connect. Relative paths are relative to the directory of the file
 * that names them.
 */
export interface Config {
  /**
   * The place of this schema, for editors. Ignored by the target.
   */
  $schema?: string
  /**
   * Addresses where exports are served. Every listener serves every export.
   */
  listeners: Listener[]
  management?: Management
  files?: Files
  /**
   * Devices by name. A device inside another one can be written in place or named here. They
   * can be nested 100 deep.
   */
  devices: {
    [k: string]: Device
  }
  /**
   * Exports by the name that clients ask for. A client that asks for none gets the export with
   * the empty name.
   */
  exports: {
    [k: string]: Export
  }
  limits: Limits
  state: State
  log: Log
}
/**
 * An address where a protocol is served.
 */
export interface Listener {
  /**
   * dst is the native protocol, for other targets; nbd is for all NBD clients.
   */
  protocol: 'dst' | 'nbd'
  /**
   * HOST:PORT, [IPV6]:PORT or unix:PATH. Port 0 takes a free port, which is printed and shown
   * by status. The port may be left out: 4470 for dst, 10809 for nbd.
   */
  address: string
  /**
   * The permissions to connect to a unix socket, as chmod has them. Left out: for the user of
   * the target alone, whatever its umask is.
   */
  mode?: string
  /**
   * The owner of a unix socket, by name or number. Left out: the user of the target. Only root
   * may give it to another user.
   */
  owner?: string
  /**
   * The group of a unix socket, by name or number. Left out: the group of the target. The
   * target's user has to be in the group, unless it is root.
   */
  group?: string
}
/**
 * The address where commands such as status find the running target. Left out: no
 * management. There is no authentication: every process that can connect can change volumes.
 * A unix socket is for its owner alone unless mode says otherwise; a TCP address should be
 * one of the local host.
 */
export interface Management {
  /**
   * unix:PATH or HOST:PORT.
   */
  address: string
  /**
   * The permissions to connect to a unix socket, as chmod has them. Left out: for the user of
   * the target alone, whatever its umask is.
   */
  mode?: string
  /**
   * The owner of a unix socket, by name or number. Left out: the user of the target. Only root
   * may give it to another user.
   */
  owner?: string
  /**
   * The group of a unix socket, by name or number. Left out: the group of the target. The
   * target's user has to be in the group, unless it is root.
   */
  group?: string
}
/**
 * Files that commands may let the running target open or make, such as those of a new leg,
 * sockets of remotes, and the files that a fault layer looks for.
 */
export interface Files {
  /**
   * Folders in which such files may be, at any depth; an empty list allows none. Left out: any
   * folder, if only the target's own user can give commands; if others can, over TCP or by the
   * mode of the socket, only folders that hold a file of this configuration, and no disk.
   */
  allow: string[]
}
/**
 * A regular file or a block device.
 */
export interface File {
  type: 'file'
  /**
   * The file. It is locked: no other target and no other device can open it for writing.
   */
  path: string
  /**
   * Bytes. Left out: as many as the file has. A file that is there must have this size, unless
   * grow is set. Needed with create.
   */
  size?: number | string
  /**
   * Make the file, sparse, and the directories above it, when it is not there. The file of a
   * leg is made only in a directory that is there, and only if the volume never had that leg.
   */
  create: boolean
  /**
   * Enlarge a file that is smaller than size. A file is never cut.
   */
  grow: boolean
  /**
   * Bypass the page cache (O_DIRECT).
   */
  direct: boolean
  /**
   * Open for reading only.
   */
  readOnly: boolean
}
/**
 * A sparse disk in memory, empty after every start. It takes memory only for what was
 * written.
 */
export interface Memory {
  type: 'memory'
  /**
   * Bytes.
   */
  size: number | string
}
/**
 * An export of another target, over DST/1. Its size and abilities are learnt from it.
 */
export interface Remote {
  type: 'remote'
  /**
   * dst://HOST[:PORT]/NAME or dst+unix:///NAME?socket=PATH.
   */
  uri: string
  /**
   * Connections of the session. The second carries small messages that would wait behind large
   * payloads of the first; more gain little.
   */
  connections: number
  /**
   * How long requests are held while the remote is away; after that they fail until it is
   * back. Left out: 30s, but 1s below a mirror, whose other legs go on without it.
   */
  hold?: number | string
  /**
   * The longest time for connecting, and again for the answer to the hello.
   */
  connectTimeout: number | string
  /**
   * The time between two pings of a connection. Left out: 5s, but 2s below a mirror; at most a
   * third of pingTimeout.
   */
  pingInterval?: number | string
  /**
   * Silence after which a connection is given up. Left out: 15s, but 5s below a mirror; at
   * least three times pingInterval.
   */
  pingTimeout?: number | string
  /**
   * The time after which an unanswered request makes the session start again. 0: never.
   */
  requestTimeout: number | string
  /**
   * Protect headers and payloads by checksums.
   */
  checksums: boolean
  /**
   * Bytes that the export must have. Left out: as many as it has.
   */
  size?: number | string
}
/**
 * An export of any NBD server. Its size and abilities are learnt from it. NBD cannot say
 * that a server has restarted, so writes that a lost connection left unanswered fail.
 */
export interface Nbd {
  type: 'nbd'
  /**
   * nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH.
   */
  uri: string
  /**
   * Connections, if the server says that all of them see the same data; otherwise one.
   */
  connections: number
  /**
   * How long requests are held while the server is away; after that they fail until it is
   * back. Left out: 30s, but 1s below a mirror, whose other legs go on without it.
   */
  hold?: number | string
  /**
   * The longest time for connecting, and again for the negotiation.
   */
  connectTimeout: number | string
  /**
   * The longest time for an answer to a request; after that the server counts as gone.
   */
  requestTimeout: number | string
  /**
   * The pause before a new connection when the server did not visibly close the last one, or
   * closed it before it had answered every write: it may still carry out writes from there.
   */
  quiesce: number | string
  /**
   * Bytes that the export must have. Left out: as many as it has.
   */
  size?: number | string
}
/**
 * Devices one after the other: the first byte of each follows the last byte of the one
 * before.
 */
export interface Linear {
  type: 'linear'
  /**
   * The devices, in order.
   *
   * @minItems 1
   */
  parts: Child[]
}
/**
 * A volume: the same bytes on every leg. Writes go to all, reads to one. A leg that fails
 * leaves, and catches up when it returns. Each leg keeps metadata at its end, so the volume
 * is a little smaller than its smallest leg.
 */
export interface Mirror {
  type: 'mirror'
  /**
   * The legs by name. The name of a leg never changes: it is stored on the leg, too.
   */
  legs: {
    [k: string]: Leg
  }
  /**
   * Bytes of the volume when it is created. Left out: as many as the smallest leg can hold.
   */
  size?: number | string
  /**
   * The leg whose content a new volume starts with. Left out: the only leg that has data; if
   * several have, no volume is made until this names one.
   */
  source?: string
  /**
   * Writes and flushes wait rather than be acknowledged by fewer legs than this.
   */
  minInSync: number
  /**
   * The unit of the intent log and of the dirty maps, when the volume is created: a power of
   * two from 64K to 64M.
   */
  extentSize: number | string
  /**
   * Record on the legs which extents were written to recently, so that after a crash only
   * these are made equal again instead of all.
   */
  intentLog: boolean
  /**
   * Extents that stay in the intent log: with more there are fewer metadata writes, and more
   * to make equal after a crash.
   */
  hotExtents: number
  /**
   * The time without a write to an extent after which it leaves the intent log.
   */
  intentIdle: number | string
  /**
   * How long a leg may answer nothing at all before it is given up. It may take four times as
   * long for one request while it answers others, for a flush or zeroes, and while no other
   * leg is in sync. Never less than a second above the hold of a remote below it.
   */
  legTimeout: number | string
  /**
   * How soon a leg that failed is tried again; doubled after each failure, up to legRetryMax.
   */
  legRetry: number | string
  /**
   * The longest time between two tries.
   */
  legRetryMax: number | string
  suspend: Suspend
  resync: Resync
  verify?: Verify
  /**
   * Entries that the volume's history keeps.
   */
  historySize: number
}
/**
 * A leg with options.
 */
export interface LegOptions {
  /**
   * The device.
   */
  device: string | Device
  /**
   * Read from it only when no other leg can answer.
   */
  readLast: boolean
}
/**
 * What happens to requests when no leg, or too few, can take them.
 */
export interface Suspend {
  /**
   * The time after which waiting requests fail.
   */
  time: number | string
  /**
   * The most requests that wait; more fail at once.
   */
  requests: number
  /**
   * The most bytes of writes that wait; more fail at once.
   */
  bytes: number | string
}
/**
 * How a leg is filled or catches up.
 */
export interface Resync {
  /**
   * When clients' writes take longer than this, a resync or verify slows down.
   */
  latency: number | string
  /**
   * Bytes per second at most. Left out: no limit.
   */
  speed?: number | string
  /**
   * Pieces that are copied at the same time.
   */
  window: number
  /**
   * The size of a piece: a power of two from 4K to 32M.
   */
  chunk: number | string
  /**
   * Progress is made durable after so many bytes: an interruption costs no more.
   */
  checkpoint: number | string
  /**
   * Progress is also made durable after this time, so that a slow copy over a link that drops
   * comes to an end.
   */
  checkpointTime: number | string
  /**
   * Memory for each leg that is not in sync, to record which blocks of 4 KiB it missed (32
   * bytes for each extent of 1 MiB that was written to). When it is used up, or after a crash
   * of the head, whole extents are copied. 0: always whole extents.
   */
  memory: number | string
}
/**
 * When all legs in sync are compared; see docs/mirror.md. Left out: only when dst verify
 * asks for it.
 */
export interface Verify {
  /**
   * The time from the end of one verify, also of one that a command started, to the beginning
   * of the next. After a restart a verify goes on where it was.
   */
  every: number | string
  /**
   * Bytes per second at most. Left out: the speed of resync.
   */
  speed?: number | string
}
/**
 * A fault layer: fails some requests and passes on the others.
 */
export interface Error {
  type: 'error'
  /**
   * A device written in place, or the name of one in devices.
   */
  device: string | Device
  operations?: Operations
  /**
   * Only requests that touch these bytes fail.
   */
  range?: {
    /**
     * The first byte.
     */
    offset: number | string
    /**
     * The number of bytes.
     */
    length: number | string
  }
  /**
   * The share of requests that fail. Left out: all.
   */
  probability?: number
  /**
   * Requests fail only while a file of this name is there.
   */
  whileFileExists?: string
  /**
   * The code of the error.
   */
  code: 'IO' | 'NO_SPACE' | 'READ_ONLY' | 'UNAVAILABLE' | 'TIMEOUT' | 'STALE' | 'BUSY'
}
/**
 * A fault layer: holds each request for a while before it passes it on; requests may
 * overtake one another.
 */
export interface Delay {
  type: 'delay'
  /**
   * A device written in place, or the name of one in devices.
   */
  device: string | Device
  operations?: Operations1
  /**
   * The shortest delay.
   */
  min: number | string
  /**
   * The longest delay. Left out: the same as min.
   */
  max?: number | string
}
/**
 * A layer that logs a line for every request. For a short examination, not for production.
 */
export interface LogLayer {
  type: 'log'
  /**
   * A device written in place, or the name of one in devices.
   */
  device: string | Device
  operations?: Operations2
  /**
   * The level for requests that succeed; failed requests are warnings.
   */
  level: 'debug' | 'info'
}
/**
 * A device under a name that clients ask for.
 */
export interface Export {
  /**
   * The name of a device, or the path of one inside another, such as home/right.
   */
  device: string
  /**
   * Refuse writes. Required for a device that is part of another one.
   */
  readOnly: boolean
  /**
   * A text for people, shown by clients that list exports.
   */
  description: string
}
/**
 * Limits on what clients use. Together they bound the memory of the process.
 */
export interface Limits {
  /**
   * Connections of all listeners together, and as many again over unix sockets; more are
   * closed at once.
   */
  connections: number
  /**
   * Connections from one address, or from one /64 network in IPv6; more are closed at once.
   * Unix sockets have no addresses: only connections limits them.
   */
  connectionsPerPeer: number
  /**
   * The longest time from accepting a connection to the end of its negotiation.
   */
  handshakeTimeout: number | string
  /**
   * How long a client may read none of the replies that wait for it; while other clients wait
   * for room, how long it may take to read all of them.
   */
  sendTimeout: number | string
  /**
   * Silence over TCP after which the system asks a client whether it is there. A client that
   * has vanished is dropped ten seconds later, or, with replies on the way to it, after about
   * a quarter of an hour. At least a second, at most nine hours.
   */
  keepAlive: number | string
  /**
   * Requests in flight of one connection; the rest wait in the socket.
   */
  requestsPerConnection: number
  /**
   * Bytes in flight of one connection, payload and replies.
   */
  bytesPerConnection: number | string
  /**
   * Bytes in flight of all connections, payload and replies. They are shared out, so that
   * nobody has all: no read or write is granted more than half, and a connection that is alone
   * about a fifth.
   */
  bytesInFlight: number | string
  /**
   * The longest read or write: from 64K to 32M. With less than 128K, NBD clients that do not
   * ask for block sizes, such as nbd-client, are refused.
   */
  payload: number | string
  /**
   * How long a stop waits for requests in flight and for flushes; after that connections are
   * cut, and the exit code is 1.
   */
  stopTimeout: number | string
}
/**
 * The records that the target keeps between runs: for each mirror, the last generation and
 * its members; for each device, the head of a mirror that has claimed it over DST/1.
 */
export interface State {
  /**
   * A directory of this target's own. It is locked, and a second target with the same
   * directory does not start. Made when it is first needed.
   */
  directory: string
}
/**
 * The log on standard error: JSON, one line per event, none per request.
 */
export interface Log {
  /**
   * The least important lines to write.
   */
  level: 'debug' | 'info' | 'warn' | 'error'
}
