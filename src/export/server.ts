import type { Clock, Timer } from '../base/clock.ts'
import type { Connection } from '../net/network.ts'
import type { Intake } from './intake.ts'
import { Places } from './places.ts'
import type { ServiceContext } from './service.ts'

/** Milliseconds between two looks for clients that take too long. */
const tickMs = 1000

/** One connection of a client, as its server keeps it. */
interface Served {
  readonly intake: Intake
  /** Called about once a second, with monotonic milliseconds. */
  tick(now: number): void
  /** Rules may have changed: goes on by them, or ends. */
  recheck(): void
}

/** Keeps the connections of one protocol's clients, from their place to the end of all. */
export abstract class Server<Client extends Served> {
  protected readonly connections = new Set<Client>()
  private readonly places: Places
  private readonly clock: Clock
  private ticking: Timer | null = null
  private draining = false
  private drained: (() => void)[] = []

  constructor({ places, limits, clock }: ServiceContext) {
    this.places = places ?? new Places(limits)
    this.clock = clock
  }

  /** Takes a place for a connection, to be given to `keep` then. False when there is none. */
  protected enter(connection: Connection): boolean {
    return !this.draining && this.places.enter(connection)
  }

  protected keep(client: Client): void {
    this.connections.add(client)
    this.schedule()
  }

  /** The client's connection is gone. */
  protected readonly left = (client: Client): void => {
    this.connections.delete(client)
    this.places.leave(client.intake.connection)
    this.finish()
  }

  /** What else is looked at with each tick. True while there is more than connections. */
  protected look(): boolean {
    return false
  }

  /** The last connection is gone, and no other comes. */
  protected ended(): void {
    // Most servers have nothing but connections.
  }

  recheck(): void {
    for (const client of [...this.connections]) client.recheck()
  }

  drain(): Promise<void> {
    this.draining = true
    for (const { intake } of [...this.connections]) intake.drain()
    return new Promise((resolve) => {
      this.drained.push(resolve)
      this.finish()
    })
  }

  destroy(): void {
    this.draining = true
    for (const { intake } of [...this.connections]) intake.destroy()
    this.finish()
  }

  private finish(): void {
    if (!this.draining || this.connections.size > 0) return
    this.ticking?.cancel()
    this.ticking = null
    this.ended()
    for (const resolve of this.drained) resolve()
    this.drained = []
  }

  private schedule(): void {
    this.ticking ??= this.clock.timer(tickMs, this.tick)
  }

  private readonly tick = (): void => {
    this.ticking = null
    const now = this.clock.now()
    for (const connection of this.connections) connection.tick(now)
    if (this.look() || this.connections.size > 0) this.schedule()
  }
}
