import type { Connection, ConnectionHandler } from '../net/network.ts'
import type { Entrance } from '../export/export.ts'
import { sharedListing } from '../export/listing.ts'
import { Server } from '../export/server.ts'
import type { ClientStatus, Service, ServiceContext } from '../export/service.ts'
import { ServerConnection } from './connection.ts'
import { encodeListings, listingsOf } from './listing.ts'
import { Negotiation } from './negotiation.ts'
import { replyOverheadBytes } from './asking.ts'

/** Serves exports over NBD, on any number of listeners. */
export class NbdService extends Server<ServerConnection> implements Service {
  private readonly context: ServiceContext
  /** Bytes of the longest payload that is allowed and fits into the limits of memory. */
  private readonly payloadMax: number
  private readonly listingOf = sharedListing(listingsOf, encodeListings)

  constructor(context: ServiceContext) {
    super(context)
    this.context = context
    const { payload, bytesPerConnection } = context.limits
    const bytes = Math.min(bytesPerConnection, context.admission.largest)
    this.payloadMax = Math.min(payload, bytes - replyOverheadBytes)
  }

  accept(connection: Connection, entrance: Entrance): ConnectionHandler | null {
    if (!this.enter(connection)) return null
    const { context, payloadMax, listingOf } = this
    const client = new ServerConnection(context, connection, this.left)
    this.keep(client)
    client.intake.begin(new Negotiation(client, { payloadMax, entrance, listingOf }))
    return client.intake
  }

  clients(): readonly ClientStatus[] {
    return Array.from(this.connections, (connection) => connection.status)
  }
}
