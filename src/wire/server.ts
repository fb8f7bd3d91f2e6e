import type { Timer } from '../base/clock.ts'
import { blockBytesMax } from '../base/slab.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import type { Entrance } from '../export/export.ts'
import { sharedListing } from '../export/listing.ts'
import { Places } from '../export/places.ts'
import type { ClientStatus, Service, ServiceContext } from '../export/service.ts'
import type { Announced } from './greeter.ts'
import { encodeListing } from './hello.ts'
import { listingsOf } from './listing.ts'
import { replyOverheadBytes } from './replies.ts'
import { ServerConnection } from './server-connection.ts'
import { Sessions } from './session.ts'

/** Milliseconds between two looks for silent clients. */
const tickInterval = 1000

/** The server of DST/1, on any number of listeners. `docs/protocol.md` has the protocol. */
export class DstService implements Service {
  private readonly context: ServiceContext
  private readonly places: Places
  private readonly sessions: Sessions
  private readonly announced: Announced
  private readonly connections = new Set<ServerConnection>()
  private ticking: Timer | null = null
  private draining = false
  private drained: (() => void)[] = []

  constructor(context: ServiceContext) {
    const { limits } = context
    const room = context.admission.largest - replyOverheadBytes
    const payload = Math.min(limits.payload, room, blockBytesMax)
    this.context = { ...context, limits: { ...limits, payload } }
    this.places = context.places ?? new Places(limits)
    this.sessions = new Sessions(context.clock, payload, context.claims)
    this.announced = {
      instance: context.random.bytes(16).toString('hex'),
      listingOf: sharedListing(listingsOf, encodeListing),
    }
  }

  accept(connection: Connection, entrance: Entrance): ConnectionHandler | null {
    if (this.draining || !this.places.enter(connection)) return null
    const { context, sessions, announced, closed: onClosed } = this
    const shared = { sessions, announced, entrance, onClosed }
    const accepted = new ServerConnection(connection, context, shared)
    this.connections.add(accepted)
    // Before the first byte: nothing is said in clear, and nothing heard.
    if (entrance.tls !== undefined) connection.startTls!(entrance.tls.side, () => undefined)
    this.schedule()
    return accepted.intake
  }

  clients(): readonly ClientStatus[] {
    const clients: ClientStatus[] = []
    for (const session of this.sessions.all()) {
      const [first] = session.connections
      if (first === undefined) continue
      clients.push({
        protocol: 'dst',
        peer: first.peer,
        identity: first.identity,
        export: session.target.name,
        connections: session.connections.size,
        inFlight: session.inFlight,
        since: session.since,
      })
    }
    return clients
  }

  drain(): Promise<void> {
    this.draining = true
    for (const connection of this.connections) connection.intake.drain()
    return new Promise((resolve) => {
      this.drained.push(resolve)
      this.finish()
    })
  }

  destroy(): void {
    this.draining = true
    for (const connection of this.connections) connection.intake.destroy()
    this.finish()
  }

  private readonly closed = (connection: ServerConnection): void => {
    this.connections.delete(connection)
    this.places.leave(connection.intake.connection)
    this.finish()
  }

  private finish(): void {
    if (!this.draining || this.connections.size > 0) return
    this.ticking?.cancel()
    this.ticking = null
    this.sessions.close()
    for (const resolve of this.drained) resolve()
    this.drained = []
  }

  private schedule(): void {
    this.ticking ??= this.context.clock.timer(tickInterval, this.tick)
  }

  private readonly tick = (): void => {
    this.ticking = null
    const now = this.context.clock.now()
    for (const connection of this.connections) connection.tick(now)
    this.sessions.expire()
    if (this.connections.size > 0 || this.sessions.count > 0) this.schedule()
  }
}
