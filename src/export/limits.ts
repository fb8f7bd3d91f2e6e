/**
 * What a server allows its peers. Every value can be set in the configuration under `limits`; the
 * names there are the same, and the schema has the defaults.
 */
export interface Limits {
  /**
   * Connections of all listeners together, and as many again over unix sockets; more are closed at
   * once. An idle one costs 12 KiB.
   */
  readonly connections: number
  /**
   * Connections from one address, or one network of 64 bits in IPv6; more are closed at once. By
   * default a quarter of all: no single peer shuts out the others.
   */
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
  /** Payload bytes in flight on all connections together. Bounds the memory of the process. */
  readonly bytesInFlight: number
  /**
   * Bytes of the longest read or write. The default is what every NBD client knows as the largest
   * request that it may send without asking.
   */
  readonly payload: number
}
