import type { StorageError } from '../base/errors.ts'
import type { SocketAccess } from './access.ts'
import type { Address } from './address.ts'
import type { Identity } from './identity.ts'
import type { TlsSide } from './tls/side.ts'

/**
 * A stream of bytes to one peer. Nothing here throws for what the peer or the network does: a
 * connection that broke reports `closed`, once, and swallows what is sent afterwards.
 */
export interface Connection {
  /** The peer's address, for logs and status. */
  readonly peer: string
  /** What is known of the peer now; another one once the connection is under TLS. */
  readonly identity: Identity
  /** What the peer counts as, by `originOf`; undefined over a unix socket. */
  readonly origin?: string | undefined
  /** The number of its file descriptor; undefined where that is not known. */
  readonly descriptor?: number | undefined
  /** Once so many bytes are queued it is better to send them than to wait for more. */
  readonly batchBytes: number
  /**
   * Sends the buffers, in order. They must not change until `sent` was called for this call, or
   * `closed`. The array itself may be reused at once.
   */
  send(buffers: readonly Buffer[]): void
  /**
   * Puts the connection under TLS, once, behind what was sent so far. What is sent from now on goes
   * out when the handshake is done, and bytes that land are those that were sealed: what comes
   * before it in clear ends the connection. Then `secured` is called, with the new `identity` in
   * force; if the peer does not prove who it is, `closed` follows. A deadline is the caller's.
   * Absent where there is no TLS, as in a simulation.
   */
  startTls?(side: TlsSide, secured: () => void): void
  /** No bytes land until `resume`, but for a delivery that is under way. Idempotent. */
  pause(): void
  resume(): void
  /** Closes after everything sent so far has gone out. `closed` follows. */
  end(): void
  /**
   * Closes at once; what was not sent is dropped if this side had connected. `closed` follows, not
   * before this returns.
   */
  destroy(): void
}

/** What a connection tells its one user. Never called before the user was handed the connection. */
export interface ConnectionHandler {
  /**
   * Where the next bytes are to land: at least one byte long. The answer stays in force until bytes
   * have landed, also while paused.
   */
  landing(): Buffer
  /** `bytes` were written to the start of the last landing. */
  landed(bytes: number): void
  /** The buffers of the oldest `send` that was not reported yet are the caller's again. */
  sent(): void
  /** The connection is over and refers to no buffer; null if nothing broke. Called once. */
  closed(reason: StorageError | null): void
}

export interface ListenOptions {
  /** The rights of a unix socket; left out, only the user of this process may connect. */
  readonly access?: SocketAccess
  /**
   * Milliseconds of silence after which the system asks a peer over TCP whether it is there; one
   * that vanished is dropped ten seconds later. Linux does not ask a peer that has yet to
   * acknowledge what was sent, and gives it up after about a quarter of an hour. Left out, the
   * system waits for hours.
   */
  readonly keepAlive?: number
}

/** A place where connections are accepted. */
export interface Listener {
  /** Where it listens; the port that was chosen instead of 0. */
  readonly address: Address
  /** Accepts no more; accepted connections live on. */
  close(): Promise<void>
}

/** Makes the handler of an accepted connection; null has the connection destroyed (too many). */
export type Accept = (connection: Connection) => ConnectionHandler | null

/** The way to peers, handed in so that a simulation can replace it. */
export interface Network {
  /**
   * Connects within `timeout` milliseconds. `attach` is called once connected, and makes the
   * handler; on failure `failed` is called instead. The returned function gives the attempt up
   * (then neither is called).
   */
  connect(
    address: Address,
    timeout: number,
    attach: (connection: Connection) => ConnectionHandler,
    failed: (error: StorageError) => void,
  ): () => void
  /** Rejects with CONFIG when it cannot listen there: an address in use, for example. */
  listen(address: Address, accept: Accept, options?: ListenOptions): Promise<Listener>
}
