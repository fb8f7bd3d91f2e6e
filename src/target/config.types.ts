// Generated from schemas/config.schema.json by `npm run schema`; do not edit.

/**
 * A node of the tree: it has a size and takes requests. Its type says what else it has.
 */
export type Device = File | Memory | Linear
/**
 * A device written in place, or the name of one in devices.
 */
export type Child = string | Device

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
  /**
   * Devices by name. A device inside another one can be written in place or named here.
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
}
/**
 * Where commands such as status find the running target. Left out: no management. There is
 * no authentication: whoever can connect can change volumes. A unix socket is made for its
 * owner alone; of a TCP address only the local host's own should be used.
 */
export interface Management {
  /**
   * unix:PATH or HOST:PORT.
   */
  address: string
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
   * Bytes to serve. Left out: all there are. Needed with create.
   */
  size?: number | string
  /**
   * Make the file, sparse, and the directories above it, when it is not there.
   */
  create: boolean
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
   * Connections of all listeners together; more are closed at once.
   */
  connections: number
  /**
   * From accepting a connection to the end of its negotiation.
   */
  handshakeTimeout: number | string
  /**
   * Without progress in sending to a client that has replies to read.
   */
  sendTimeout: number | string
  /**
   * Requests in flight of one connection; the rest wait in the socket.
   */
  requestsPerConnection: number
  /**
   * Payload bytes in flight of one connection.
   */
  bytesPerConnection: number | string
  /**
   * Payload bytes in flight of all connections.
   */
  bytesInFlight: number | string
  /**
   * The longest read or write: from 64K to 32M.
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
 * members.
 */
export interface State {
  /**
   * A directory of this target's own; made when a mirror first needs it.
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
