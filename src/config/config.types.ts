// Generated from schemas/config.schema.json by `npm run schema`; do not edit.

/**
 * A node of the tree: it has a size and takes requests. Its type says what else it has.
 */
export type Device = File | Memory | Remote | Nbd | Linear | Mirror | Error | Delay | LogLayer
/**
 * A device written in place, or the name of one in devices.
 */
export type Child = string | Device
/**
 * A child of a mirror: a device in place, the name of one, or an object with more to say
 * about it.
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
   * Where an editor finds this schema. Ignored by the target.
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
   * What clients can ask for, by the name they use. The empty name is what clients get who ask
   * for none.
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
   * dst is the native protocol, for other targets; nbd is for everybody's NBD clients.
   */
  protocol: 'dst' | 'nbd'
  /**
   * HOST:PORT, [IPV6]:PORT or unix:PATH. Port 0 takes a free one, which is printed and shown
   * by status. The port may be left out: 4470 for dst, 10809 for nbd.
   */
  address: string
  /**
   * Of a unix socket: who may connect, as chmod has it. Left out: the user of the target
   * alone, whatever its umask is.
   */
  mode?: string
  /**
   * Of a unix socket: the user it belongs to, by name or number. Left out: the user of the
   * target. Only root may give it to another one.
   */
  owner?: string
  /**
   * Of a unix socket: the group it belongs to, by name or number. Left out: the group of the
   * target. A target that is not root's has to be in the group.
   */
  group?: string
}
/**
 * Where commands such as status find the running target. Left out: no management. There is
 * no authentication: whoever can connect can change volumes. A unix socket is made for its
 * owner alone unless mode says otherwise; of a TCP address only the local host's own should
 * be used.
 */
export interface Management {
  /**
   * unix:PATH or HOST:PORT.
   */
  address: string
  /**
   * Of a unix socket: who may connect, as chmod has it. Left out: the user of the target
   * alone, whatever its umask is.
   */
  mode?: string
  /**
   * Of a unix socket: the user it belongs to, by name or number. Left out: the user of the
   * target. Only root may give it to another one.
   */
  owner?: string
  /**
   * Of a unix socket: the group it belongs to, by name or number. Left out: the group of the
   * target. A target that is not root's has to be in the group.
   */
  group?: string
}
/**
 * Files that commands may have the running target open or make, such as those of a leg that
 * is added, or lead it to: sockets of remotes, and what a fault layer looks for.
 */
export interface Files {
  /**
   * Folders where such files may lie, at any depth; none if it is empty. Left out: any, where
   * only the target's own user can give commands; where others can, over TCP or by the mode of
   * the socket, only folders that hold a file of this configuration, and no disk.
   */
  allow: string[]
}
/**
 * A regular file or a block device.
 */
export interface File {
  type: 'file'
  /**
   * The file. It is locked: nobody else, and no other device, opens it for writing.
   */
  path: string
  /**
   * Bytes. Left out: what the file has. What is there has to have this size, unless grow is
   * set. Needed with create.
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
   * Go past the page cache (O_DIRECT).
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
   * Connections of the session. The second carries what would wait behind large payloads of
   * the first; more gain little.
   */
  connections: number
  /**
   * How long requests are held while the remote is away; after that they fail until it is
   * back. Left out: 30s, but 1s below a mirror, whose other legs go on without it.
   */
  hold?: number | string
  /**
   * For connecting, and again for the answer to the hello.
   */
  connectTimeout: number | string
  /**
   * Between two pings of a connection. Left out: 5s, but 2s below a mirror; at most a third of
   * pingTimeout.
   */
  pingInterval?: number | string
  /**
   * Silence after which a connection is given up. Left out: 15s, but 5s below a mirror; at
   * least three times pingInterval.
   */
  pingTimeout?: number | string
  /**
   * After which a request without answer has the session begun anew. 0: never.
   */
  requestTimeout: number | string
  /**
   * Whether headers and payloads carry checksums.
   */
  checksums: boolean
  /**
   * Bytes that the export must have. Left out: whatever it has.
   */
  size?: number | string
}
/**
 * An export of anybody's NBD server. Its size and abilities are learnt from it. NBD has no
 * way to say that a server has restarted, so writes that a lost connection left unanswered
 * fail.
 */
export interface Nbd {
  type: 'nbd'
  /**
   * nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH.
   */
  uri: string
  /**
   * Connections, if the server says that all of them see the same.
   */
  connections: number
  /**
   * How long requests are held while the server is away; after that they fail until it is
   * back. Left out: 30s, but 1s below a mirror, whose other legs go on without it.
   */
  hold?: number | string
  /**
   * For connecting, and again for the negotiation.
   */
  connectTimeout: number | string
  /**
   * Until the server has to answer a request; after that it counts as gone.
   */
  requestTimeout: number | string
  /**
   * Before a new connection is made after one that the server was not seen to close, or closed
   * before it had answered every write: what was sent on it may still be carried out.
   */
  quiesce: number | string
  /**
   * Bytes that the export must have. Left out: whatever it has.
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
   * The legs by name. The name of a leg never changes: it is on the leg too.
   */
  legs: {
    [k: string]: Leg
  }
  /**
   * Bytes of the volume when it is created. Left out: as many as the smallest leg can hold.
   */
  size?: number | string
  /**
   * The leg whose content a new volume starts with. Left out: the one that has data; if
   * several have, nothing is made until this says which counts.
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
   * Whether what was written recently is remembered on the legs, so that after a crash only
   * that is made equal again instead of everything.
   */
  intentLog: boolean
  /**
   * Extents that stay in the intent log: more are fewer metadata writes, and more to make
   * equal after a crash.
   */
  hotExtents: number
  /**
   * How long an extent is not written to before it leaves the intent log.
   */
  intentIdle: number | string
  /**
   * How long a leg may answer nothing at all before it leaves. For one request while it
   * answers others, for a flush or zeroes, and where no other leg is in sync, it may take four
   * times that. Never less than the hold of a remote below it and a second.
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
 * A leg with more to say about it.
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
   * After this they fail.
   */
  time: number | string
  /**
   * So many may wait; more fail at once.
   */
  requests: number
  /**
   * So many bytes may wait with them.
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
   * Pieces under way at once.
   */
  window: number
  /**
   * The size of a piece: a power of two from 4K to 32M.
   */
  chunk: number | string
  /**
   * What was copied is made durable after so many bytes: an interruption costs no more.
   */
  checkpoint: number | string
  /**
   * The same after this time, however few bytes it were: a slow copy over a link that drops
   * comes to its end.
   */
  checkpointTime: number | string
  /**
   * Memory for each leg that is not in sync, in which it is kept which blocks of 4 KiB of an
   * extent it missed (32 bytes for each extent of 1 MiB that was written to). When it is used
   * up, or after a crash of the head, whole extents are copied. 0: always.
   */
  memory: number | string
}
/**
 * Compares all legs in sync now and then; see docs/mirror.md. Left out: only when dst verify
 * asks for it.
 */
export interface Verify {
  /**
   * From the end of one verify, whoever asked for it, to the beginning of the next. What a
   * restart interrupts goes on where it was.
   */
  every: number | string
  /**
   * Bytes per second at most. Left out: that of resync.
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
     * How many.
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
   * What they fail with.
   */
  code: 'IO' | 'NO_SPACE' | 'READ_ONLY' | 'UNAVAILABLE' | 'TIMEOUT' | 'STALE' | 'BUSY'
}
/**
 * A fault layer: holds requests for a while before it passes them on, each by itself, so
 * that they may overtake each other.
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
   * The longest delay. Left out: as min.
   */
  max?: number | string
}
/**
 * A layer that writes a line to the log for every request. For looking at something, not for
 * keeping.
 */
export interface LogLayer {
  type: 'log'
  /**
   * A device written in place, or the name of one in devices.
   */
  device: string | Device
  operations?: Operations2
  /**
   * Of requests that succeed; those that fail are warnings.
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
   * Refuse writes. Required for a device that another one is made of.
   */
  readOnly: boolean
  /**
   * A text for people, shown by clients that list exports.
   */
  description: string
}
/**
 * What clients may use up. Together these bound the memory of the process.
 */
export interface Limits {
  /**
   * Connections of all listeners together, and as many again over unix sockets; more are
   * closed at once.
   */
  connections: number
  /**
   * Connections of one address, or of one network of 64 bits in IPv6; more are closed at once.
   * Unix sockets have no addresses: there only connections counts.
   */
  connectionsPerPeer: number
  /**
   * From accepting a connection to the end of its negotiation.
   */
  handshakeTimeout: number | string
  /**
   * Without progress in sending to a client that has replies to read; while others wait for
   * room, for it to take all of them.
   */
  sendTimeout: number | string
  /**
   * Silence over TCP after which the system asks a client whether it is there; one that
   * vanished is gone ten seconds later, or, with replies on the way to it, after about a
   * quarter of an hour. At least a second, at most nine hours.
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
 * What this target remembers between runs: of every mirror, the last generation and its
 * members; of every device, which head of a mirror has claimed it over DST/1.
 */
export interface State {
  /**
   * A directory of this target's own, which is locked: a second target that is to use it is
   * refused. Made when it is first needed.
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
