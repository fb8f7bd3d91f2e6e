import type { Clock, Timer } from '../base/clock.ts'
import type { StorageError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import type { Slab } from '../base/slab.ts'
import type { Address } from '../net/address.ts'
import type { Connection, ConnectionHandler, Network } from '../net/network.ts'
import type { TlsSide } from '../net/tls/side.ts'
import { Backoff } from './backoff.ts'

/** What a client needs of its surroundings. */
export interface ClientWorld {
  readonly network: Network
  readonly slab: Slab
  readonly clock: Clock
  readonly random: Random
}

/** Where a link leads. */
export interface LinkOptions {
  readonly address: Address
  /** Milliseconds for connecting. */
  readonly connectTimeout: number
  /** TLS from the first byte; absent: none, or one that the client begins by itself. */
  readonly tls?: TlsSide | undefined
}

/** One connection of a link. It calls `Link.gone` when it is closed, and after that `Link.end`. */
export interface LinkClient extends ConnectionHandler {
  /** Closes after what was sent has gone out. */
  end(): void
  /** Closes at once. */
  destroy(reason: StorageError): void
}

/** The owner of a link. */
export interface LinkUser<Client> {
  /** Called before each attempt to connect; makes the client. 0 is the first of a session. */
  clientFor(index: number): (connection: Connection) => Client
  /** The session, or the attempt at one, ends; sockets may still refer to buffers. */
  ending(reason: StorageError): void
  /** No socket refers to anything any more. Another session follows, unless `rest` is called. */
  down(reason: StorageError): void
}

/**
 * Keeps a session with a peer: all its connections, or none. When it ends, all are closed. The next
 * session begins once no socket refers to a buffer, after a pause that grows and is random.
 */
export class Link<Client extends LinkClient> {
  /** All connections that were made and are not closed, the oldest first. */
  readonly alive: Client[] = []
  readonly backoff: Backoff
  /** How many sessions were begun or attempted. */
  dials = 0
  /** Why the session ends; null while it does not. */
  reason: StorageError | null = null
  /** True once `stop` was called: no other session follows. */
  stopped = false
  private readonly options: LinkOptions
  private readonly user: LinkUser<Client>
  private readonly world: ClientWorld
  private readonly attempts = new Set<() => void>()
  private retry: Timer | null = null
  private grace: Timer | null = null
  /** Milliseconds that have to pass before the next session. */
  private pauseMs = 0
  private onStopped: (() => void) | null = null

  constructor(options: LinkOptions, user: LinkUser<Client>, world: ClientWorld) {
    this.options = options
    this.user = user
    this.world = world
    this.backoff = new Backoff(world.random)
  }

  /** Begins a session, now. */
  dial(): void {
    this.rest()
    this.dials++
    this.connect(0)
  }

  /** Begins no more sessions until `dial`. */
  rest(): void {
    this.retry?.cancel()
    this.retry = null
  }

  /**
   * Makes one more connection, unless the link was stopped. The session can do without any but the
   * first, with index 0.
   */
  connect(index: number): void {
    // A claim may come late, to a driver that is closed by then.
    if (this.stopped) return
    const { address, connectTimeout, tls } = this.options
    const attach = this.user.clientFor(index)
    const giveUp = this.world.network.connect(
      address,
      connectTimeout,
      (connection) => {
        this.attempts.delete(giveUp)
        if (tls !== undefined) connection.startTls!(tls, () => undefined)
        const client = attach(connection)
        this.alive.push(client)
        return client
      },
      (error) => {
        this.attempts.delete(giveUp)
        if (index === 0) this.end(error)
      },
    )
    this.attempts.add(giveUp)
  }

  /** The client's connection is closed and refers to no buffer. */
  gone(client: Client): void {
    this.alive.splice(this.alive.indexOf(client), 1)
    if (this.alive.length === 0) this.onStopped?.()
  }

  /**
   * Ends the session, or goes on with that if it ends already. The peer has `graceMs` to close its
   * connections by itself; the next session comes `pauseMs` later at the earliest.
   */
  end(reason: StorageError, graceMs = 0, pauseMs = 0): void {
    this.pauseMs = Math.max(this.pauseMs, pauseMs)
    if (this.reason === null) {
      this.reason = reason
      this.giveUpAttempts()
      this.user.ending(reason)
      if (graceMs > 0) this.grace = this.world.clock.timer(graceMs, () => this.destroyAll(reason))
      else this.destroyAll(reason)
    }
    this.finish()
  }

  /** Asks all connections to end, and begins no other session. Resolves when all are closed. */
  stop(): Promise<void> {
    this.stopped = true
    this.rest()
    this.giveUpAttempts()
    for (const client of [...this.alive]) client.end()
    if (this.alive.length === 0) return Promise.resolve()
    return new Promise((resolve) => (this.onStopped = resolve))
  }

  private destroyAll(reason: StorageError): void {
    for (const client of [...this.alive]) client.destroy(reason)
  }

  private giveUpAttempts(): void {
    for (const giveUp of this.attempts) giveUp()
    this.attempts.clear()
  }

  private finish(): void {
    const { reason } = this
    if (reason === null || this.alive.length > 0) return
    this.grace?.cancel()
    this.reason = null
    if (this.stopped) return
    const delay = Math.max(this.backoff.next(), this.pauseMs)
    this.pauseMs = 0
    this.retry = this.world.clock.timer(delay, () => this.dial())
    this.user.down(reason)
  }
}
