import type { StorageError } from '../base/errors.ts'
import type { SocketAccess } from './access.ts'
import type { Address } from './address.ts'

/**
 * A stream of bytes to one peer. Nothing here throws for what the peer or the network does: a
 * connection that broke reports `closed`, once, and swallows what is sent afterwards.
 */
export interface Connection {
  /** The peer's address, for logs and status. */
  readonly peer: string
  /** What is counted as one peer: see `originOf`. Undefined over a unix socket. */
  readonly origin?: string | undefined
  /** The number of its file descriptor; undefined where that is not known. */
  readonly descriptor?: number | undefined
  /** With so many bytes to send it is better to send them than to wait for more. */
  readonly batchBytes: number
  /**
   * Sends the buffers, in order. They must not change until `sent` was called for this call, or
   * `closed`. The array itself may be reused at once.
   */
  send(buffers: readonly Buffer[]): void
  /** No bytes land until `resume`, but for a delivery that is under way. Idempotent. */
  pause(): void
  resume(): void
  /** Closes after everything sent so far has gone out. `closed` follows. */
  end(): void
  /**
   * Closes at once; who connected drops what was not sent. `closed` follows, not before this
   * returns.
   */
  destroy(): void
}

/** What a connection tells its one user. Never called before the user was handed the connection. */
export interface ConnectionHandler {
  /**
   * Where the next bytes shall land: at least one byte long. The answer stays in force until bytes
   * landed, also while paused.
   */
  landing(): Buffer
  /** `bytes` were written to the start of the last landing. */
  landed(bytes: number): void
  /** The oldest `send` that was not reported yet has let go of its buffers. */
  sent(): void
  /** It is over, for whatever reason, and no buffer is referred to any more. Called once. */
  closed(reason: StorageError | null): void
}

export interface ListenOptions {
  /** Of a unix socket; left out: for the user of this process alone. */
  readonly access?: SocketAccess
  /**
   * Milliseconds of silence after which the system asks a peer over TCP whether it is there; one
   * that vanished is gone ten seconds later. Linux asks nobody who has not acknowledged what was
   * sent, and gives up such a peer after about a quarter of an hour. Left out: the system's own
   * time, of hours.
   */
  readonly keepAlive?: number
}

export interface Listener {
  /** Where it listens: the chosen port instead of 0. */
  readonly address: Address
  /** Accepts no more; accepted connections live on. */
  close(): Promise<void>
}

/** Makes the handler of an accepted connection; null refuses it (too many): it is destroyed. */
export type Accept = (connection: Connection) => ConnectionHandler | null

/** The world of peers, handed in so that a simulation can replace it. */
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
  /**
   * Rejects with a StorageError: an address in use, or not ours.
   */
  listen(address: Address, accept: Accept, options?: ListenOptions): Promise<Listener>
}
