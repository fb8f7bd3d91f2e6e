import { blockBytesMax } from '../base/slab.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import type { Entrance } from '../export/export.ts'
import { sharedListing } from '../export/listing.ts'
import { Server } from '../export/server.ts'
import type { ClientStatus, Service, ServiceContext } from '../export/service.ts'
import type { Announced } from './greeter.ts'
import { encodeListing } from './hello.ts'
import { listingsOf } from './listing.ts'
import { replyOverheadBytes } from './replies.ts'
import { ServerConnection } from './server-connection.ts'
import { Sessions } from './session.ts'

/** The server of DST/1, on any number of listeners. `docs/protocol.md` has the protocol. */
export class DstService extends Server<ServerConnection> implements Service {
  private readonly context: ServiceContext
  private readonly sessions: Sessions
  private readonly announced: Announced

  constructor(context: ServiceContext) {
    super(context)
    const { limits } = context
    const room = context.admission.largest - replyOverheadBytes
    const payload = Math.min(limits.payload, room, blockBytesMax)
    this.context = { ...context, limits: { ...limits, payload } }
    this.sessions = new Sessions(context.clock, payload, context.claims)
    this.announced = {
      instance: context.random.bytes(16).toString('hex'),
      listingOf: sharedListing(listingsOf, encodeListing),
    }
  }

  accept(connection: Connection, entrance: Entrance): ConnectionHandler | null {
    if (!this.enter(connection)) return null
    const { context, sessions, announced, left: onClosed } = this
    const shared = { sessions, announced, entrance, onClosed }
    const accepted = new ServerConnection(connection, context, shared)
    this.keep(accepted)
    // Before the first byte: nothing is said in clear, and nothing heard.
    if (entrance.tls !== undefined) connection.startTls!(entrance.tls.side, () => undefined)
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

  override recheck(): void {
    super.recheck()
    for (const session of this.sessions.all())
      if (session.connections.size === 0) session.mayDiffer = true
  }

  protected override look(): boolean {
    this.sessions.expire()
    return this.sessions.count > 0
  }

  protected override ended(): void {
    this.sessions.close()
  }
}
