import type { Timer } from '../base/clock.ts'
import { StorageError, type Code } from '../base/errors.ts'
import type { Driver, DriverHost, Facts } from '../device/device.ts'
import { isChange, Operation, type Request } from '../device/request.ts'
import type { Address } from '../net/address.ts'
import type { TlsSide } from '../net/tls/side.ts'
import { bareTls, formatUri } from '../net/uri.ts'
import type { Connection } from '../net/network.ts'
import { HeldRequests, payloadOf } from '../peer/held.ts'
import { Link, type ClientWorld, type LinkUser } from '../peer/link.ts'
import { NbdClient, type ClientOwner } from './client.ts'
import { factsOf } from './facts.ts'
import type { Terms } from './handshake.ts'
import { TransmissionFlag } from './options.ts'

/** What the configuration says of an `nbd` device. */
export interface NbdOptions {
  readonly address: Address
  /** TLS, begun by STARTTLS, without which nothing is said; absent: none. */
  readonly tls?: TlsSide
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
  /** Bytes that the export must have; left out, any size is taken. */
  readonly size?: number
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

/** Milliseconds that a server that closed one connection has to close the others, if it stops. */
const closeGraceMs = 100

type Optional = 'size' | 'tls'
type Settled = Required<Omit<NbdOptions, Optional>> & Pick<NbdOptions, Optional>

/** A request that a connection left unanswered, and why it failed; null for the session's end. */
interface Orphan {
  readonly request: Request
  readonly failure: StorageError | null
}

/**
 * An export of an NBD server of any make. NBD knows no incarnations and no fencing, so every
 * reconnect counts as a server that may have forgotten what it had not flushed (a new `bootId`):
 * changes and flushes that were not answered fail with STALE, reads are sent again.
 */
export class NbdDriver implements Driver, ClientOwner, LinkUser<NbdClient> {
  readonly type = 'nbd'
  /** Many servers carry out a forced write as a write and a flush: the error is the same. */
  readonly flushesUnseen = true
  /** Rises with every session: a connection that broke looks like a server that restarted. */
  restarts = 0
  readonly children = []
  private readonly options: Settled
  private readonly world: ClientWorld
  private readonly uri: string
  private host: DriverHost | null = null
  private opened: (() => void) | null = null
  /** The connections of one incarnation of the server: they come and go together. */
  private readonly link: Link<NbdClient>
  /** What the first connection of the session has agreed on; null until it is there. */
  private terms: Terms | null = null
  /** True while requests are sent: the session has its first connection, and does not end yet. */
  private up = false
  /** Connections that are not used yet, and how much the first had been asked when they came. */
  private readonly joining = new Map<NbdClient, number>()
  /** What closed connections left unanswered, until all connections are closed. */
  private orphans: Orphan[] = []
  private facts: Facts | null = null
  private readonly held = new HeldRequests()
  private holdTimer: Timer | null = null
  private holdOver = false
  /** False from the end of a session until the server answers a request. */
  private proven = true
  private reconnects = 0
  private lastFailure = ''
  /** How often each read was sent again; only those that were. */
  private readonly resent = new Map<Request, number>()
  private pumping = false

  constructor(options: NbdOptions, world: ClientWorld) {
    this.options = { ...nbdDefaults, ...options }
    this.world = world
    const { address, name, tls } = options
    const { connectTimeout } = this.options
    this.link = new Link({ address, connectTimeout }, this, world)
    this.uri = formatUri({
      protocol: 'nbd',
      address,
      name,
      tls: tls === undefined ? null : bareTls,
    })
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    return new Promise((resolve) => {
      this.opened = resolve
      this.link.dial()
    })
  }

  async close(): Promise<void> {
    if (this.link.stopped) return
    this.holdTimer?.cancel()
    this.settleOpen()
    await this.link.stop()
  }

  describe(): Record<string, unknown> {
    const { uri, reconnects, lastFailure } = this
    const connected = this.link.alive.filter(({ terms }) => terms !== null)
    return {
      uri,
      connections: connected.length,
      // Connections that are not used yet.
      joining: this.joining.size,
      inFlight: connected.reduce((sum, { inFlight }) => sum + inFlight, 0),
      held: this.held.length,
      reconnects,
      ...(lastFailure === '' ? {} : { lastFailure }),
    }
  }

  submit(request: Request): void {
    // While the server is there, waiting requests are bounded where they enter the target.
    if (this.holdOver) request.fail(this.error('UNAVAILABLE', 'the server is away'))
    else if (this.up || this.held.hasRoom(request)) {
      this.held.push(request)
      this.pump()
    } else request.fail(this.error('BUSY', 'too many requests wait for the server'))
  }

  connected(client: NbdClient): void {
    const terms = client.terms!
    if (this.terms !== null) {
      if (alike(this.terms, terms)) this.joining.set(client, this.link.alive[0]!.asked)
      else client.destroy(this.error('PROTOCOL', 'connections to the export differ'))
      return
    }
    const { size } = this.options
    if (size !== undefined && size !== terms.size) {
      client.destroy(this.error('CONFIG', `the export has ${terms.size} bytes, not ${size}`))
      return
    }
    this.begin(terms)
  }

  answered(request: Request, error: StorageError | null): void {
    if (!this.proven) this.prove()
    if (this.resent.size > 0) this.resent.delete(request)
    if (this.joining.size > 0) this.join()
    if (error === null) request.complete()
    else request.fail(error)
    this.pump()
  }

  /**
   * A further connection may lead to a server that has restarted, before we notice that the first
   * connection is dead. So it is used only once the first has answered a request sent after that.
   */
  private join(): void {
    const [first] = this.link.alive
    for (const [client, asked] of this.joining)
      if (first!.heard > asked) this.joining.delete(client)
  }

  lost(client: NbdClient, reason: StorageError, closedBy: 'server' | 'other'): void {
    const { link, terms, options } = this
    // What was sent may be carried out late, unless the server is known to be done with it. That it
    // closed is not enough: some servers, and proxies before them, close with writes under way.
    let isDone = closedBy === 'server'
    client.abandoned((request, failure) => {
      this.orphans.push({ request, failure })
      if (isChange(request.operation)) isDone = false
    })
    link.gone(client)
    this.joining.delete(client)
    // A further connection that the server did not want leaves the others as they are.
    const spare = client.terms === null && terms !== null && link.alive.length > 0
    if (spare && link.reason === null) return
    const quiet = terms !== null && !isDone ? options.quiesce : 0
    link.end(reason, closedBy === 'server' ? closeGraceMs : 0, quiet)
  }

  clientFor(): (connection: Connection) => NbdClient {
    const { name, tls = null, connectTimeout: handshakeTimeout, requestTimeout } = this.options
    const { slab, clock } = this.world
    const { path } = this.host!
    const settings = { slab, clock, name, tls, handshakeTimeout, requestTimeout, path }
    return (connection) => new NbdClient(connection, settings, this)
  }

  /** The first connection of a session is there. */
  private begin(terms: Terms): void {
    const facts = factsOf(terms, this.uri, this.world.random)
    const other = this.facts !== null && this.facts.identity !== facts.identity
    if (this.facts !== null) this.restarts++
    this.terms = terms
    this.up = true
    this.facts = facts
    this.holdOver = false
    if (other) this.held.failAll(this.error('STALE', 'the export is not the one it was'))
    this.host!.online(facts)
    if (this.held.length === 0) this.stopHolding()
    if ((terms.flags & TransmissionFlag.multiConn) !== 0)
      for (let index = 1; index < this.options.connections; index++) this.link.connect(index)
    this.settleOpen()
    this.pump()
  }

  ending(): void {
    this.up = false
  }

  down(reason: StorageError): void {
    const { orphans, terms } = this
    this.orphans = []
    this.terms = null
    this.joining.clear()
    this.lastFailure = reason.message
    if (terms !== null) {
      this.reconnects++
      this.proven = false
    }
    if (this.facts === null || this.holdOver) this.host!.offline('offline', reason.message)
    else if (terms !== null) {
      this.holdTimer ??= this.world.clock.timer(this.options.hold, () => this.endHolding())
      const why = `reconnecting, requests are held: ${reason.message}`
      this.host!.online(this.facts, 'degraded', why)
    }
    this.settleOrphans(orphans, reason)
    this.settleOpen()
  }

  private settleOrphans(orphans: readonly Orphan[], reason: StorageError): void {
    for (const { request, failure } of orphans) {
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

  /** The server was away for too long: requests fail until it is back. */
  private endHolding(): void {
    this.holdTimer = null
    if (this.terms !== null) return
    this.holdOver = true
    this.host!.offline('offline', this.lastFailure)
    this.resent.clear()
    this.held.failAll(this.error('UNAVAILABLE', `the server is away: ${this.lastFailure}`))
  }

  private prove(): void {
    this.proven = true
    this.link.backoff.reset()
    this.stopHolding()
  }

  private pump(): void {
    const { held } = this
    if (this.pumping || !this.up) return
    this.pumping = true
    for (let request = held.peek(); request !== undefined; request = held.peek()) {
      const client = this.leastBusy(payloadOf(request))
      if (client === null) break
      held.shift()
      client.send(request)
    }
    this.pumping = false
  }

  /** The connection with the fewest requests that has room for `bytes` more. */
  private leastBusy(bytes: number): NbdClient | null {
    const { joining } = this
    let found: NbdClient | null = null
    for (const client of this.link.alive) {
      const takes = client.hasRoom(bytes) && !joining.has(client)
      if (takes && (found === null || client.inFlight < found.inFlight)) found = client
    }
    return found
  }

  private settleOpen(): void {
    this.opened?.()
    this.opened = null
  }

  private error(code: Code, message: string): StorageError {
    return new StorageError(code, message, this.host!.path)
  }
}

/** Whether a request that is made for one connection may go over the other. */
function alike(one: Terms, other: Terms): boolean {
  const { minimum, maximum } = one.blockSizes
  return (
    one.size === other.size &&
    one.flags === other.flags &&
    minimum === other.blockSizes.minimum &&
    maximum === other.blockSizes.maximum &&
    (one.context === null) === (other.context === null)
  )
}
