import { MiB } from '../base/size.ts'

/**
 * What a server allows its peers. Every value can be set in the configuration under `limits`; the
 * names there are the same.
 */
export interface Limits {
  /**
   * Connections of all listeners together, and as many again over unix sockets; more are closed at
   * once.
   */
  readonly connections: number
  /** Connections from one address, or one network of 64 bits in IPv6; more are closed at once. */
  readonly connectionsPerPeer: number
  /** Milliseconds from accepting a connection to the end of its negotiation. */
  readonly handshakeTimeout: number
  /**
   * Milliseconds without progress in sending to a client that has replies to read. While others
   * wait for room, a client that holds more than its share has this long to read all of them.
   */
  readonly sendTimeout: number
  /**
   * Milliseconds of silence over TCP after which the system asks a client whether it is there. One
   * that vanished without a word is gone ten seconds later.
   */
  readonly keepAlive: number
  /** Requests in flight of one connection; the rest wait in the socket. */
  readonly requestsPerConnection: number
  /** Payload bytes in flight of one connection. */
  readonly bytesPerConnection: number
  /** Payload bytes in flight of all connections: bounds the memory of the process. */
  readonly bytesInFlight: number
  /** Bytes of the longest read or write. */
  readonly payload: number
}

export const defaultLimits: Limits = {
  // An idle one costs 12 KiB.
  connections: 16_384,
  // A quarter: no single peer shuts out the others.
  connectionsPerPeer: 4096,
  handshakeTimeout: 10_000,
  sendTimeout: 30_000,
  keepAlive: 60_000,
  requestsPerConnection: 128,
  bytesPerConnection: 64 * MiB,
  bytesInFlight: 256 * MiB,
  // What every NBD client knows as the largest request it may send without asking.
  payload: 32 * MiB,
}
