import type { Timer } from '../base/clock.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import type { Entrance } from '../export/export.ts'
import { sharedListing } from '../export/listing.ts'
import { Places } from '../export/places.ts'
import type { ClientStatus, Service, ServiceContext } from '../export/service.ts'
import { ServerConnection } from './connection.ts'
import { encodeListings, listingsOf } from './listing.ts'
import { Negotiation } from './negotiation.ts'
import { replyOverheadBytes } from './asking.ts'

/** Milliseconds between two looks for clients that take too long. */
const tickInterval = 1000

/** Serves exports over NBD, on any number of listeners. */
export class NbdService implements Service {
  private readonly context: ServiceContext
  /** Bytes of the longest payload that is allowed and fits into the limits of memory. */
  private readonly payloadMax: number
  private readonly places: Places
  private readonly listingOf = sharedListing(listingsOf, encodeListings)
  private readonly connections = new Set<ServerConnection>()
  private ticking: Timer | null = null
  private drained: (() => void) | null = null
  private draining: Promise<void> | null = null

  constructor(context: ServiceContext) {
    this.context = context
    this.places = context.places ?? new Places(context.limits)
    const { payload, bytesPerConnection } = context.limits
    const bytes = Math.min(bytesPerConnection, context.admission.largest)
    this.payloadMax = Math.min(payload, bytes - replyOverheadBytes)
  }

  accept(connection: Connection, entrance: Entrance): ConnectionHandler | null {
    if (this.draining !== null || !this.places.enter(connection)) return null
    const { context, payloadMax, listingOf } = this
    const client = new ServerConnection(context, connection, this.left)
    this.connections.add(client)
    client.intake.begin(new Negotiation(client, { payloadMax, entrance, listingOf }))
    this.schedule()
    return client.intake
  }

  clients(): readonly ClientStatus[] {
    return Array.from(this.connections, (connection) => connection.status)
  }

  drain(): Promise<void> {
    this.draining ??= new Promise((resolve) => {
      this.drained = resolve
      for (const connection of [...this.connections]) connection.intake.drain()
      if (this.connections.size === 0) resolve()
    })
    return this.draining
  }

  destroy(): void {
    for (const { intake } of [...this.connections]) intake.destroy()
  }

  private schedule(): void {
    this.ticking ??= this.context.clock.timer(tickInterval, this.tick)
  }

  private readonly tick = (): void => {
    this.ticking = null
    const now = this.context.clock.now()
    for (const connection of this.connections) connection.tick(now)
    if (this.connections.size > 0) this.schedule()
  }

  private readonly left = (connection: ServerConnection): void => {
    this.connections.delete(connection)
    this.places.leave(connection.intake.connection)
    if (this.connections.size === 0) this.drained?.()
  }
}
