import type { Clock, Timer } from '../base/clock.ts'
import { StorageError, type Code } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import type { Slab } from '../base/slab.ts'
import type { Driver, DriverHost, Facts } from '../device/device.ts'
import { isChange, Operation, type Request } from '../device/request.ts'
import { formatUri, type Address } from '../net/address.ts'
import type { Network } from '../net/network.ts'
import { Backoff } from '../peer/backoff.ts'
import { HeldRequests } from '../peer/held.ts'
import { NbdClient, payloadOf, type ClientOwner } from './client.ts'
import { factsOf } from './facts.ts'
import type { Terms } from './handshake.ts'
import { TransmissionFlag } from './options.ts'

export interface NbdOptions {
  readonly address: Address
  /** The export's name; '' is the server's default. */
  readonly name: string
  /** How many connections to use, if the server says that several see the same. Default 1. */
  readonly connections?: number
  /** Milliseconds that requests are held while the server is away; then they fail. */
  readonly hold?: number
  /** Milliseconds for connecting, and again for the handshake. */
  readonly connectTimeout?: number
  /** Milliseconds until the server has to answer a request; then it counts as gone. */
  readonly requestTimeout?: number
  /**
   * Milliseconds before a new connection is made after one that the server was not seen to close,
   * or closed before it had answered every change: NBD cannot fence the old one, and what was sent
   * on it may still be carried out until then.
   */
  readonly quiesce?: number
  /** Bytes that the export must have, for whoever wants to be sure; otherwise it is learnt. */
  readonly size?: number
}

/** The world that the driver lives in. */
export interface NbdWorld {
  readonly network: Network
  readonly slab: Slab
  readonly clock: Clock
  readonly random: Random
}

export const nbdDefaults = {
  connections: 1,
  hold: 30_000,
  connectTimeout: 5_000,
  requestTimeout: 30_000,
  quiesce: 5_000,
} as const

/** How often a read is sent again before it fails: it may be what the server dies of. */
const resendsMax = 3

/** Milliseconds for a server that closed one connection to close the others, as the dying do. */
const closeGrace = 100

/** The connections of one incarnation of the server: they come and go together. */
interface Session {
  readonly clients: NbdClient[]
  /** Further ones that are not used yet, and what the first one had been asked when they came. */
  readonly joining: Map<NbdClient, number>
  terms: Terms | null
  /** Attempts to connect that have not come to an end: each can be given up. */
  readonly attempts: Set<() => void>
  /** Why it ended; null while it lives. */
  ended: StorageError | null
  /** Whether the server is known to have closed all of them. */
  byServer: boolean
  grace: Timer | null
  /** Requests of clients that are gone, until all are. */
  readonly orphans: Orphan[]
}

interface Orphan {
  readonly request: Request
  readonly failure: StorageError | null
}

/**
 * An export of anybody's NBD server. NBD knows no incarnations and no fencing, so every reconnect
 * counts as a server that may have forgotten what it had not flushed (a new `bootId`): writes and
 * flushes that were not answered fail with STALE, reads are sent again.
 */
export class NbdDriver implements Driver, ClientOwner {
  readonly type = 'nbd'
  /** Many servers write, and then flush: the error is the same. */
  readonly flushesUnseen = true
  /** Nothing tells a connection that was lost from a server that was. */
  restarts = 0
  readonly children = []
  private readonly options: Required<Omit<NbdOptions, 'size'>> & Pick<NbdOptions, 'size'>
  private readonly world: NbdWorld
  private readonly uri: string
  private host: DriverHost | null = null
  private opened: (() => void) | null = null
  private session: Session | null = null
  private facts: Facts | null = null
  private readonly held = new HeldRequests()
  private readonly backoff: Backoff
  private timer: Timer | null = null
  private holdTimer: Timer | null = null
  private holdOver = false
  /** Whether the server has answered a request since it was away. */
  private proven = true
  private reconnects = 0
  private lastFailure = ''
  private closing: (() => void) | null = null
  private isClosed = false
  /** How often each read was sent again, among those that were. */
  private readonly resent = new Map<Request, number>()
  private pumping = false

  constructor(options: NbdOptions, world: NbdWorld) {
    this.options = { ...nbdDefaults, ...options }
    this.world = world
    this.backoff = new Backoff(world.random)
    const { address, name } = options
    this.uri = formatUri({ protocol: 'nbd', address, name })
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    return new Promise((resolve) => {
      this.opened = resolve
      this.connect()
    })
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.timer?.cancel()
    this.holdTimer?.cancel()
    this.settleOpen()
    const { session } = this
    if (session === null) return
    giveUp(session)
    if (session.clients.length === 0) return
    await new Promise<void>((resolve) => {
      this.closing = resolve
      for (const client of session.clients) client.disconnect()
    })
  }

  describe(): Record<string, unknown> {
    const { uri, reconnects, lastFailure } = this
    const clients = this.session?.clients ?? []
    const connected = clients.filter(({ terms }) => terms !== null)
    return {
      uri,
      connections: connected.length,
      // Those of them that are not used yet.
      joining: this.session?.joining.size ?? 0,
      inFlight: connected.reduce((sum, { inFlight }) => sum + inFlight, 0),
      held: this.held.length,
      reconnects,
      ...(lastFailure === '' ? {} : { lastFailure }),
    }
  }

  submit(request: Request): void {
    // What waits for a server that is there is bounded where requests come in, at the entrance.
    const here = this.session?.terms != null && this.session.ended === null
    if (this.holdOver) request.fail(this.error('UNAVAILABLE', 'the server is away'))
    else if (here || this.held.hasRoom(request)) {
      this.held.push(request)
      this.pump()
    } else request.fail(this.error('BUSY', 'too many requests wait for the server'))
  }

  connected(client: NbdClient): void {
    const session = this.session!
    const terms = client.terms!
    if (session.terms !== null) {
      const same = session.terms.size === terms.size && session.terms.flags === terms.flags
      if (same) session.joining.set(client, session.clients[0]!.asked)
      else client.destroy(this.error('PROTOCOL', 'connections to the export differ'))
      return
    }
    const { size } = this.options
    if (size !== undefined && size !== terms.size) {
      client.destroy(this.error('CONFIG', `the export has ${terms.size} bytes, not ${size}`))
      return
    }
    session.terms = terms
    this.begin(session, terms)
  }

  answered(request: Request, error: StorageError | null): void {
    if (!this.proven) this.prove()
    if (this.resent.size > 0) this.resent.delete(request)
    if (this.session!.joining.size > 0) this.join(this.session!)
    if (error === null) request.complete()
    else request.fail(error)
    this.pump()
  }

  /**
   * A further connection may lead to a server that has restarted, where nobody has noticed yet that
   * the first one is dead. It is used once that has answered what it was asked since.
   */
  private join({ clients, joining }: Session): void {
    for (const [client, asked] of joining) if (clients[0]!.heard > asked) joining.delete(client)
  }

  lost(client: NbdClient, reason: StorageError, byServer: boolean): void {
    const session = this.session!
    client.abandoned((request, failure) => session.orphans.push({ request, failure }))
    session.clients.splice(session.clients.indexOf(client), 1)
    session.joining.delete(client)
    // A further connection that the server did not want leaves the others as they are.
    const spare = client.terms === null && session.terms !== null && session.clients.length > 0
    if (!spare || session.ended !== null) this.endSession(session, reason, byServer)
  }

  private connect(): void {
    this.timer = null
    const session: Session = {
      clients: [],
      joining: new Map(),
      terms: null,
      attempts: new Set(),
      ended: null,
      byServer: true,
      grace: null,
      orphans: [],
    }
    this.session = session
    this.addConnection(session)
  }

  private addConnection(session: Session): void {
    const { address, name, connectTimeout, requestTimeout } = this.options
    const { network, slab, clock } = this.world
    const { path } = this.host!
    const attempt = network.connect(
      address,
      connectTimeout,
      (connection) => {
        session.attempts.delete(attempt)
        const settings = {
          slab,
          clock,
          name,
          handshakeTimeout: connectTimeout,
          requestTimeout,
          path,
        }
        const client = new NbdClient(connection, settings, this)
        session.clients.push(client)
        return client
      },
      (error) => {
        session.attempts.delete(attempt)
        if (session.terms === null) this.endSession(session, error, true)
      },
    )
    session.attempts.add(attempt)
  }

  /** The first connection of a session is there. */
  private begin(session: Session, terms: Terms): void {
    const facts = factsOf(terms, this.uri, this.world.random)
    const other = this.facts !== null && this.facts.identity !== facts.identity
    if (this.facts !== null) this.restarts++
    this.facts = facts
    this.holdOver = false
    if (other) this.held.failAll(this.error('STALE', 'the export is not the one it was'))
    this.host!.online(facts)
    if (this.held.length === 0) this.stopHolding()
    if ((terms.flags & TransmissionFlag.multiConn) !== 0)
      for (let more = this.options.connections; more > 1; more--) this.addConnection(session)
    this.settleOpen()
    this.pump()
  }

  /** Ends all connections of the session; goes on once all are gone. */
  private endSession(session: Session, reason: StorageError, byServer: boolean): void {
    session.byServer &&= byServer
    if (session.ended === null) {
      session.ended = reason
      giveUp(session)
      const endAll = (): void => {
        for (const client of [...session.clients]) client.destroy(reason)
      }
      if (byServer) session.grace = this.world.clock.timer(closeGrace, endAll)
      else endAll()
    }
    if (session.clients.length > 0) return
    session.grace?.cancel()
    this.session = null
    if (this.isClosed) {
      this.closing?.()
      return
    }
    this.lastFailure = session.ended.message
    if (session.terms !== null) {
      this.reconnects++
      this.proven = false
    }
    this.goAway(session)
    this.settleOrphans(session)
    this.settleOpen()
  }

  private goAway(session: Session): void {
    const { hold, quiesce } = this.options
    const { clock } = this.world
    const why = session.ended!.message
    if (this.facts === null || this.holdOver) this.host!.offline('offline', why)
    else if (session.terms !== null) {
      this.holdTimer ??= clock.timer(hold, () => this.endHolding())
      this.host!.online(this.facts, 'degraded', `reconnecting, requests are held: ${why}`)
    }
    // What was sent may come late, unless the server is known to be done with the connection: not
    // by its closing alone, which some do with writes under way, and what stands in between.
    const unanswered = session.orphans.some(({ request }) => isChange(request.operation))
    const isDone = session.byServer && !unanswered
    const quiet = session.terms !== null && !isDone ? quiesce : 0
    this.timer = clock.timer(Math.max(this.backoff.next(), quiet), () => this.connect())
  }

  private settleOrphans(session: Session): void {
    const reason = session.ended!
    for (const { request, failure } of session.orphans) {
      if (failure !== null) this.giveBack(request, failure)
      else if (reason.code === 'PROTOCOL') this.giveBack(request, reason)
      else if (isChange(request.operation) || request.operation === Operation.flush)
        this.giveBack(request, this.error('STALE', 'the connection broke before the answer'))
      else this.sendAgain(request)
    }
  }

  private sendAgain(request: Request): void {
    const times = (this.resent.get(request) ?? 0) + 1
    if (times <= resendsMax && !this.holdOver && this.held.hasRoom(request)) {
      this.held.push(request)
      this.resent.set(request, times)
    } else this.giveBack(request, this.error('UNAVAILABLE', 'the server is away'))
  }

  private giveBack(request: Request, error: StorageError): void {
    this.resent.delete(request)
    request.fail(error)
  }

  private stopHolding(): void {
    this.holdTimer?.cancel()
    this.holdTimer = null
  }

  /** The server was away for too long: what it was to do fails, until it is back. */
  private endHolding(): void {
    this.holdTimer = null
    if (this.session?.terms != null) return
    this.holdOver = true
    this.host!.offline('offline', this.lastFailure)
    this.resent.clear()
    this.held.failAll(this.error('UNAVAILABLE', `the server is away: ${this.lastFailure}`))
  }

  private prove(): void {
    this.proven = true
    this.backoff.reset()
    this.stopHolding()
  }

  private pump(): void {
    const { session, held } = this
    if (this.pumping || session?.terms == null || session.ended !== null) return
    this.pumping = true
    for (let request = held.peek(); request !== undefined; request = held.peek()) {
      const client = leastBusy(session, payloadOf(request))
      if (client === null) break
      held.shift()
      client.send(request)
    }
    this.pumping = false
  }

  private settleOpen(): void {
    this.opened?.()
    this.opened = null
  }

  private error(code: Code, message: string): StorageError {
    return new StorageError(code, message, this.host!.path)
  }
}

function giveUp(session: Session): void {
  for (const attempt of session.attempts) attempt()
  session.attempts.clear()
}

/** The connection with the fewest requests that has room for `bytes` more. */
function leastBusy({ clients, joining }: Session, bytes: number): NbdClient | null {
  let found: NbdClient | null = null
  for (const client of clients) {
    const takes = client.hasRoom(bytes) && !joining.has(client)
    if (takes && (found === null || client.inFlight < found.inFlight)) found = client
  }
  return found
}
