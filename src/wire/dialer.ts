import type { Clock, Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Slab } from '../base/slab.ts'
import { formatAddress, type Address } from '../net/address.ts'
import type { Network } from '../net/network.ts'
import { Backoff } from '../peer/backoff.ts'
import {
  ClientConnection,
  type ConnectionKeeper,
  type ConnectionUser,
} from './client-connection.ts'
import { Purpose, type Hello, type Welcome } from './hello.ts'
import { codeOf, statusOk } from './status.ts'

/** Milliseconds for the last bytes to leave when the device is closed. */
const stopTimeout = 1000

/** The world that a client lives in. */
export interface ClientContext {
  readonly network: Network
  readonly clock: Clock
  readonly random: Random
  readonly slab: Slab
  readonly log: Log
}

export interface DialerOptions {
  readonly address: Address
  readonly name: string
  readonly connections: number
  /** Milliseconds for connecting, and again for the answer to the hello. */
  readonly connectTimeout: number
  readonly features: number
  /** Requests wanted in flight per connection. */
  readonly depth: number
}

/** Whom the dialer works for. */
export interface DialerUser extends ConnectionUser {
  /** Why this server is not to be used; null if it is the right one. */
  admit(welcome: Welcome): StorageError | null
  /** The session has its first connection: what was unanswered may be sent again. */
  began(): void
  /** There is one more connection. */
  joined(): void
  /** A session that was up is lost; sockets may still refer to buffers. */
  lost(reason: StorageError): void
  /** No socket refers to anything. After every session, and every attempt at one. */
  down(reason: StorageError): void
  /** The epoch of the claim to be made with a hello; 0: none. */
  readonly claimEpoch: number
}

/**
 * Keeps a session: all its connections, or none. When one breaks, all are closed, and a new session
 * with a higher epoch is begun once no buffer is referred to, with growing, random pauses.
 */
export class Dialer implements ConnectionKeeper {
  /** The connections that take requests; empty while there is no session. */
  readonly connections: ClientConnection[] = []
  /** How often a session began. */
  sessions = 0
  private readonly options: DialerOptions
  private readonly user: DialerUser
  private readonly context: ClientContext
  private readonly client: string
  private epoch = 0
  private readonly backoff: Backoff
  /** All that were made and are not closed. */
  private readonly alive = new Set<ClientConnection>()
  private readonly dialing = new Set<() => void>()
  private retry: Timer | null = null
  private up = false
  private breaking: StorageError | null = null
  private stopped = false
  private onStopped: (() => void) | null = null

  constructor(options: DialerOptions, user: DialerUser, context: ClientContext) {
    this.options = options
    this.user = user
    this.context = context
    this.backoff = new Backoff(context.random)
    this.client = context.random.bytes(16).toString('hex')
  }

  /** Begins a session, now. */
  dial(): void {
    this.retry?.cancel()
    this.retry = null
    this.epoch++
    this.connect(0)
  }

  /** Ends the session, and begins no other. Resolves when all is closed. */
  stop(): Promise<void> {
    this.stopped = true
    this.retry?.cancel()
    for (const giveUp of this.dialing) giveUp()
    this.dialing.clear()
    this.connections.length = 0
    for (const connection of this.alive) connection.end()
    if (this.alive.size === 0) return Promise.resolve()
    const patience = this.context.clock.timer(stopTimeout, () => {
      for (const connection of this.alive) connection.destroy()
    })
    return new Promise((resolve) => {
      this.onStopped = () => {
        patience.cancel()
        resolve()
      }
    })
  }

  /** Gives the session up; another follows. */
  giveUp(reason: StorageError): void {
    if (this.breaking !== null || this.stopped) return
    this.breaking = reason
    this.connections.length = 0
    for (const giveUp of this.dialing) giveUp()
    this.dialing.clear()
    if (this.up) this.user.lost(reason)
    for (const connection of this.alive) connection.destroy()
    this.finishBreaking()
  }

  /** Begins no more sessions until `dial`. */
  rest(): void {
    this.retry?.cancel()
    this.retry = null
  }

  private connect(index: number): void {
    const { options, context, user, epoch } = this
    const hello: Hello = {
      purpose: Purpose.attach,
      index,
      features: options.features,
      client: this.client,
      epoch,
      // A further one may be late: the session may have given its claim up by then.
      claim: index === 0 ? user.claimEpoch : 0,
      depth: options.depth,
      name: options.name,
    }
    const attempt: { giveUp: (() => void) | null } = { giveUp: null }
    const over = (): void => {
      if (attempt.giveUp !== null) this.dialing.delete(attempt.giveUp)
      attempt.giveUp = null
    }
    attempt.giveUp = context.network.connect(
      options.address,
      options.connectTimeout,
      (socket) => {
        over()
        const { connectTimeout } = options
        const connection = new ClientConnection(
          socket,
          this,
          user,
          hello,
          connectTimeout,
          context.slab,
          context.clock,
        )
        this.alive.add(connection)
        return connection
      },
      (error) => {
        over()
        // The session can do without a further connection.
        if (index === 0) this.giveUp(error)
      },
    )
    this.dialing.add(attempt.giveUp)
  }

  welcomed(connection: ClientConnection, welcome: Welcome): void {
    if (this.stopped || this.breaking !== null) return
    const refusal = welcome.status === statusOk ? this.user.admit(welcome) : refusalOf(welcome)
    if (refusal !== null) {
      if (connection.index === 0 || welcome.status === statusOk) this.giveUp(refusal)
      else connection.end()
      return
    }
    this.connections.push(connection)
    if (connection.index > 0) {
      this.user.joined()
      return
    }
    this.up = true
    this.sessions++
    for (let index = 1; index < this.options.connections; index++) this.connect(index)
    this.user.began()
  }

  closed(connection: ClientConnection, reason: StorageError | null): void {
    this.alive.delete(connection)
    if (this.stopped) {
      if (this.alive.size === 0) this.onStopped?.()
      return
    }
    const member = this.connections.includes(connection) || !this.up
    if (this.breaking === null && member) {
      // What was of use may be tried again soon; who breaks the protocol may not.
      if (connection.replies > 0 && reason?.code !== 'PROTOCOL') this.backoff.reset()
      const address = formatAddress(this.options.address)
      this.giveUp(reason ?? new StorageError('UNAVAILABLE', `${address} closed the connection`))
    } else this.finishBreaking()
  }

  private finishBreaking(): void {
    const reason = this.breaking
    if (reason === null || this.alive.size > 0) return
    this.breaking = null
    this.up = false
    this.retry = this.context.clock.timer(this.backoff.next(), () => this.dial())
    this.user.down(reason)
  }
}

function refusalOf(welcome: Welcome): StorageError {
  return new StorageError(codeOf(welcome.status), welcome.text)
}
