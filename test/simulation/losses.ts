import { Violation, type Acknowledged } from './checker.ts'
import type { Client } from './client.ts'
import { sectorBytes } from './medium.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/**
 * What disks have lost, and what of it a volume may lose with them: what was not flushed, where no
 * other leg in sync has it. And who is to be told.
 */
export class Losses {
  private readonly world: World
  /** What may have been lost while each of these was there, and it was not told of. */
  private readonly untold = new Map<Client, Map<number, Acknowledged>>()
  /** Legs that were in sync when the head was last seen alive. */
  private lastInSync = new Set<string>()
  /** Legs that were taken off when they were last seen: nobody relies on them. */
  private readonly detached = new Set<string>()

  constructor(world: World) {
    this.world = world
  }

  /** A leg lost power. What no other leg can vouch for and was not flushed may be gone. */
  lost(leg: Leg, how: string): void {
    const { world } = this
    const { checker } = world
    world.trace.note(`the disk of ${leg.name} ${how}`)
    this.remember()
    if (this.detached.has(leg.name)) return
    const sectors = world.sectorsPerLeg
    const base = leg.plan.span * sectors
    const others = this.othersInSync(leg)
    // Nobody goes by what a leg has that is not in sync, while another one is.
    if (others.length === 0 || this.lastInSync.has(leg.name))
      checker.loseInFlight(base, sectors, leg, 'lostBy')
    checker.doubtInFlight(base, sectors, others)
    for (const sector of checker.unflushed()) {
      if (sector < base || sector >= base + sectors) continue
      if (this.heldElsewhere(leg, sector)) continue
      const shown = checker.acknowledged(sector)
      if (shown !== null && !this.holds(leg, sector)) this.untell(sector, shown)
      checker.allowLoss(sector)
    }
  }

  /**
   * A leg failed a flush, or a forced write, and has everything: only its target cannot know that,
   * and says that it lost its cache. So a start may prefer another one to it that did.
   */
  distrusted(leg: Leg): void {
    const { world } = this
    const { checker, sectorsPerLeg: sectors } = world
    this.remember()
    if (this.detached.has(leg.name)) return
    const base = leg.plan.span * sectors
    checker.loseInFlight(base, sectors, leg, 'distrustedBy')
    checker.doubtInFlight(base, sectors, this.othersInSync(leg))
    for (const sector of checker.unflushed()) {
      if (sector < base || sector >= base + sectors || this.heldElsewhere(leg, sector)) continue
      const hasLost = (peer: Leg): boolean =>
        peer.medium.doubtful(sector) && !this.holds(peer, sector)
      if (!world.peers(leg).some(hasLost)) continue
      const shown = checker.acknowledged(sector)
      if (shown !== null) this.untell(sector, shown)
      checker.allowLoss(sector)
    }
  }

  /** The head says that a part has lost its cache: what it acknowledges now is there. */
  announced(span: number): void {
    const { checker, sectorsPerLeg } = this.world
    checker.trustInFlight(span * sectorsPerLeg, sectorsPerLeg)
  }

  /** A flush was acknowledged, or failed. */
  flushed(client: Client, start: number, error: Error | null): void {
    if (error !== null) {
      this.untold.delete(client)
      return
    }
    const { checker } = this.world
    const lost = this.untold.get(client)
    if (lost !== undefined)
      for (const [sector, shown] of lost) {
        if (shown.since > start) continue
        lost.delete(sector)
        checker.assert(sector, shown)
        if (!this.isThere(sector)) this.loseUntold(sector)
      }
    checker.endFlush(start)
  }

  private loseUntold(sector: number): void {
    const { world } = this
    world.checker.suspect = sector
    const message = `a flush was acknowledged although writes to sector ${sector} were lost`
    world.violated(new Violation(message))
  }

  /** Whether any leg in sync has what the sector may show. */
  private isThere(sector: number): boolean {
    const { legs, sectorsPerLeg } = this.world
    const span = Math.floor(sector / sectorsPerLeg)
    this.remember()
    return legs.some(
      (leg) => leg.plan.span === span && this.lastInSync.has(leg.name) && this.holds(leg, sector),
    )
  }

  /** Whoever used the volume knows that something happened. */
  forget(): void {
    this.untold.clear()
  }

  /** Whether the leg has what the volume may show. */
  holds(leg: Leg, sector: number): boolean {
    const at = (sector - leg.plan.span * this.world.sectorsPerLeg) * sectorBytes
    return this.world.checker.mayHold(sector, leg.medium.content, at)
  }

  /** Notes which legs the head takes to be in sync, while it can be asked. */
  remember(): void {
    const { server, legs } = this.world
    if (server?.process.alive !== true || server.mirrors.length === 0) return
    const status = Object.entries(this.world.legStatus(server))
    if (status.length === 0) return
    for (const [name, { state }] of status)
      if (state === 'detached') this.detached.add(name)
      else if (state === 'in-sync' || state === 'syncing') this.detached.delete(name)
    const before = this.lastInSync
    this.lastInSync = new Set(
      status.filter(([, leg]) => leg.state === 'in-sync').map(([name]) => name),
    )
    for (const leg of legs) {
      const now = this.lastInSync.has(leg.name)
      if (before.has(leg.name) && !now) this.departed(leg)
      else if (!before.has(leg.name) && now) this.world.checker.regainInFlight(leg)
    }
  }

  private untell(sector: number, shown: Acknowledged): void {
    const { clients, trace } = this.world
    if (!clients.every((client) => this.untold.has(client)))
      trace.note(`acknowledged writes may be lost, such as sector ${sector}`)
    for (const client of clients) {
      const lost = this.untold.get(client) ?? new Map<number, Acknowledged>()
      this.untold.set(client, lost)
      if (!lost.has(sector)) lost.set(sector, shown)
    }
  }

  /** A leg left: what the others lost with their power, before the head knew, went with it. */
  private departed(leg: Leg): void {
    const { checker, sectorsPerLeg } = this.world
    const others = this.othersInSync(leg)
    if (others.length === 0) return
    const base = leg.plan.span * sectorsPerLeg
    checker.doubtInFlight(base, sectorsPerLeg, others)
    for (const sector of checker.unflushed()) {
      if (sector < base || sector >= base + sectorsPerLeg) continue
      if (others.every((other) => other.medium.doubtful(sector))) checker.allowLoss(sector)
    }
  }

  /** Those of the leg's part that vouch for what it lacks. */
  private othersInSync(leg: Leg): Leg[] {
    return this.world.peers(leg).filter(({ name }) => this.lastInSync.has(name))
  }

  private heldElsewhere(lost: Leg, sector: number): boolean {
    return this.world.peers(lost).some(
      (leg) =>
        this.lastInSync.has(leg.name) &&
        // Whoever lost power since cannot know whether it was lucky.
        !leg.medium.doubtful(sector) &&
        this.holds(leg, sector),
    )
  }
}
