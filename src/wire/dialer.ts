import { StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { formatAddress } from '../net/address.ts'
import type { Connection } from '../net/network.ts'
import { Link, type ClientWorld, type LinkOptions, type LinkUser } from '../peer/link.ts'
import {
  ClientConnection,
  type ConnectionKeeper,
  type ConnectionUser,
} from './client-connection.ts'
import { Purpose, type Hello, type Welcome } from './hello.ts'
import { codeOf, statusOk } from './status.ts'

/** Milliseconds for the last bytes to leave when the device is closed. */
const stopTimeoutMs = 1000

/** What a DST/1 client needs of its surroundings. */
export interface ClientContext extends ClientWorld {
  readonly log: Log
}

/** `connectTimeout` is for connecting, and again for the answer to the hello. */
export interface DialerOptions extends LinkOptions {
  readonly name: string
  readonly connections: number
  readonly features: number
  /** Requests wanted in flight per connection. */
  readonly depth: number
}

/** The owner of a dialer. */
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
  /** The fence number of the claim to be made with a hello; 0: none. */
  readonly claimFence: number
}

/** Makes a client's sessions, one after the other, each with a higher epoch than those before. */
export class Dialer implements ConnectionKeeper, LinkUser<ClientConnection> {
  /** The connections that take requests; empty while there is no session. */
  readonly connections: ClientConnection[] = []
  readonly link: Link<ClientConnection>
  /** How often a session began. */
  sessions = 0
  private readonly options: DialerOptions
  private readonly user: DialerUser
  private readonly context: ClientContext
  private readonly client: string
  private up = false

  constructor(options: DialerOptions, user: DialerUser, context: ClientContext) {
    this.options = options
    this.user = user
    this.context = context
    this.link = new Link(options, this, context)
    this.client = context.random.bytes(16).toString('hex')
  }

  /** Ends the session, and begins no other. Resolves when all is closed. */
  async stop(): Promise<void> {
    const { link, context } = this
    this.connections.length = 0
    const patience = context.clock.timer(stopTimeoutMs, () => {
      for (const connection of [...link.alive]) connection.destroy()
    })
    await link.stop()
    patience.cancel()
  }

  /** Gives the session up; another follows, unless the dialer was stopped. */
  giveUp(reason: StorageError): void {
    if (!this.link.stopped) this.link.end(reason)
  }

  clientFor(index: number): (connection: Connection) => ClientConnection {
    const { options, context, user, link } = this
    const hello: Hello = {
      purpose: Purpose.attach,
      index,
      features: options.features,
      client: this.client,
      epoch: link.dials,
      // A further connection makes no claim: the session may have given it up meanwhile.
      claim: index === 0 ? user.claimFence : 0,
      depth: options.depth,
      name: options.name,
    }
    const setting = { keeper: this, user, hello, helloTimeout: options.connectTimeout }
    return (connection) => new ClientConnection(connection, setting, context)
  }

  ending(reason: StorageError): void {
    this.connections.length = 0
    if (this.up) this.user.lost(reason)
  }

  down(reason: StorageError): void {
    this.up = false
    this.user.down(reason)
  }

  welcomed(connection: ClientConnection, welcome: Welcome): void {
    if (this.link.stopped || this.link.reason !== null) return
    const { status, text } = welcome
    const isWelcome = status === statusOk
    const refusal = isWelcome ? this.user.admit(welcome) : new StorageError(codeOf(status), text)
    if (refusal !== null) {
      if (connection.index === 0 || isWelcome) this.giveUp(refusal)
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
    for (let index = 1; index < this.options.connections; index++) this.link.connect(index)
    this.user.began()
  }

  closed(connection: ClientConnection, reason: StorageError | null): void {
    const { link } = this
    link.gone(connection)
    if (link.reason === null) {
      // The session can do without a connection that was not welcomed yet.
      if (this.up && !this.connections.includes(connection)) return
      // A connection that was of use may be made again soon, but not one that broke the protocol.
      if (connection.replies > 0 && reason?.code !== 'PROTOCOL') link.backoff.reset()
    }
    const address = formatAddress(this.options.address)
    this.giveUp(reason ?? new StorageError('UNAVAILABLE', `${address} closed the connection`))
  }
}
