import { StorageError } from '../../src/base/errors.ts'
import type { Device } from '../../src/device/device.ts'
import type { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { Client } from './client.ts'
import type { Dice } from './dice.ts'
import { attach, attachRetryMs, exchange, manage, note, replace } from './manage.ts'
import { sectorBytes } from './medium.ts'
import type { Head, Leg } from './trees.ts'
import type { World } from './world.ts'

/** Milliseconds between two looks whether what an operator waits for has come. */
const lookMs = 5
/** Milliseconds that clients are kept quiet at most before the operator lets it be. */
const quietMsMax = 500
/** Milliseconds after a command begins in which something goes wrong on purpose. */
const strikeMsMax = 20
const blows = ['killHead', 'crashHead', 'killTarget', 'crashTarget', 'blackout'] as const
/** Milliseconds after which a copy is older than what it is a copy of, at most. */
const agingMsMax = 500
/** Milliseconds until a leg that was removed is added again, at most. */
const absenceMsMax = 4000

/**
 * An operator who takes legs off for good, puts older copies back, and gives a word on what is on a
 * leg. Whatever is called free the operator writes to at once; and the word is always true.
 */
export class Operator {
  private readonly world: World
  private readonly dice: Dice
  /** Copies of disks as they once were. */
  private readonly copies = new Map<Leg, Buffer>()
  /** Detached or removed legs that were changed since: what is on them may be discarded. */
  readonly changed = new Set<Leg>()

  constructor(world: World, dice: Dice) {
    this.world = world
    this.dice = dice
  }

  act(leg: Leg, kind: 'remove' | 'restore' | 'trust'): void {
    const { world } = this
    const { head } = world
    const mirror = head?.mirrorOf(leg) ?? null
    if (head?.opened !== true || mirror === null) return
    if (kind === 'remove') this.remove(head, mirror, leg)
    else if (kind === 'restore') void this.restore(head, leg)
    else void this.trust(head, mirror, leg)
  }

  /** Whether what the leg has alone is discarded; not always at the first attempt. */
  discards(leg: Leg): boolean {
    return this.changed.has(leg) && this.dice.chance(0.7)
  }

  /** Commands are most interesting when something happens in the middle of them. */
  private disturb(leg: Leg): void {
    const { dice, world } = this
    if (!dice.chance(0.5)) return
    const { faults } = world
    if (dice.chance(0.4)) faults.strike('stateFails', leg, 0)
    const kind = dice.pick(blows)
    const victim = dice.pick(world.legs)
    // Where a second head may come, power is never lost.
    if (kind.startsWith('kill') || !world.plan.faults.includes('takeover'))
      faults.strike(kind, victim, dice.skewed(0, strikeMsMax))
  }

  private remove(head: Head, mirror: MirrorDriver, leg: Leg): void {
    const removed = mirror.removeLeg(leg.name).then((device) => device.close())
    note(this.world, `removal of ${leg.name}`, removed)
    this.disturb(leg)
    removed.then(
      () => {
        if (this.world.head !== head) return
        // Where the head dies first, the next one knows nothing of the leg and may have to be told.
        this.changed.add(leg)
        this.scribble(leg)
        this.world.clock.after(this.dice.skewed(1, absenceMsMax), head.process, () => {
          void this.add(head, mirror, leg)
        })
      },
      () => undefined,
    )
  }

  /** Adds a leg that is none now, again and again until it is one. */
  private async add(head: Head, mirror: MirrorDriver, leg: Leg): Promise<void> {
    const { world } = this
    if (world.head !== head || world.legStatus()[leg.name] !== undefined) return
    const device = head.leaf(leg)
    await device.open()
    await this.until(head, () => device.usable, Infinity)
    const { name, plan } = leg
    const adding = mirror.addLeg({ name, device, readLast: plan.readLast }, { discard: true })
    note(world, `addition of ${name}`, adding)
    try {
      await adding
      this.changed.delete(leg)
    } catch (error) {
      if (!(error instanceof StorageError)) return
      await this.addLater(head, mirror, leg, device)
    }
  }

  private async addLater(
    head: Head,
    mirror: MirrorDriver,
    leg: Leg,
    device: Device,
  ): Promise<void> {
    await device.close()
    this.world.clock.after(attachRetryMs, head.process, () => {
      void this.add(head, mirror, leg)
    })
  }

  /** A disk is copied; later that older copy is put into its place, or into that of its image. */
  private async restore(head: Head, leg: Leg): Promise<void> {
    const { world, dice } = this
    const { medium, name } = leg
    if (this.copies.get(leg)?.length !== medium.size || dice.chance(0.3)) {
      world.trace.note(`the disk of ${name} is copied`)
      this.copies.set(leg, Buffer.from(medium.content))
      const { time } = world.clock
      const aging = dice.skewed(1, agingMsMax)
      await this.until(head, () => world.clock.time >= time + aging, Infinity)
    }
    const copy = this.copies.get(leg)!
    if (world.head !== head || !world.faults.active || copy.length !== medium.size) return
    const is = (state: string): boolean => world.legStatus()[name]?.state === state
    if (is('in-sync')) {
      if (dice.chance(0.3)) {
        replace(world, leg, copy)
        return
      }
      manage(world, leg, 'detach', dice)
      this.disturb(leg)
    }
    // While a command is under way that may concern it, a detached leg is not the owner's.
    const free = (): boolean => is('detached') && head.commands === 0 && medium.underway.size === 0
    if (await this.until(head, free, quietMsMax)) this.change(leg, copy)
  }

  private change(leg: Leg, copy: Buffer): void {
    const { world, dice } = this
    this.changed.add(leg)
    if (leg.target !== null && dice.chance(0.4)) {
      world.trace.note(`${leg.name} is restored as another disk`)
      exchange(world, leg, copy)
    } else if (dice.chance(0.5)) {
      world.trace.note(`${leg.name} is restored in place`)
      leg.medium.write(0, copy)
    } else this.scribble(leg)
  }

  /** The owner of a disk that is free writes to it. */
  private scribble({ name, medium }: Leg): void {
    const { dice } = this
    this.world.trace.note(`the owner of ${name} writes to it`)
    const whole = dice.chance(0.3)
    for (let turn = 0; turn < 3; turn++) {
      const sectors = medium.size / sectorBytes
      const first = whole ? 0 : dice.below(sectors)
      const count = whole ? sectors : dice.integer(1, Math.min(64, sectors - first))
      medium.write(first * sectorBytes, Buffer.alloc(count * sectorBytes, 'owner...'))
    }
  }

  /**
   * Stops all clients, looks whether the leg has what all others have, and says so if it is true; a
   * leg in sync is detached for that.
   */
  private async trust(head: Head, mirror: MirrorDriver, leg: Leg): Promise<void> {
    const { world } = this
    const clients = [...world.clients]
    for (const client of clients) client.pause()
    const idle = (): boolean => clients.every((client: Client) => client.inFlight === 0)
    const still = await this.until(head, idle, quietMsMax)
    // Since then a disk may have been taken away, and the leg be the only one left.
    if (still && head.commands === 0 && world.faults.active) await this.vouch(mirror, leg)
    for (const client of clients) client.resume()
  }

  private async vouch(mirror: MirrorDriver, leg: Leg): Promise<void> {
    const { world } = this
    const { name, medium } = leg
    const state = (): string | undefined => world.legStatus()[name]?.state
    if (state() === 'in-sync') {
      const detaching = mirror.detachLeg(name)
      note(world, `detach of ${name}`, detaching)
      await detaching.catch(() => undefined)
    }
    // Those that came with the head meanwhile were never asked to be quiet.
    const still = world.clients.every(({ paused, inFlight }) => paused && inFlight === 0)
    if (still && state() !== undefined && state() !== 'in-sync' && this.isEqual(leg)) {
      // What the operator has seen shall be what is there, whatever happens meanwhile.
      medium.flush(medium.order)
      const trusting = mirror.trustLeg(name)
      note(world, `trust of ${name}`, trusting)
      this.disturb(leg)
      await trusting.catch(() => undefined)
    }
    if (state() === 'detached') attach(world, mirror, leg)
  }

  /** With all that are in sync: one of them may have lost what the head does not know of yet. */
  private isEqual(leg: Leg): boolean {
    const { world } = this
    const bytes = world.sectorsPerLeg * sectorBytes
    const data = leg.medium.content.subarray(0, bytes)
    const status = world.legStatus()
    const inSync = world.peers(leg).filter(({ name }) => status[name]?.state === 'in-sync')
    return (
      inSync.length > 0 &&
      inSync.every(({ medium }) => medium.content.subarray(0, bytes).equals(data))
    )
  }

  /** Resolves to whether it came about before the time was over; never once the head is dead. */
  private until(head: Head, done: () => boolean, ms: number): Promise<boolean> {
    const { clock } = this.world
    const deadline = clock.time + ms
    return new Promise((resolve) => {
      const look = (): void => {
        if (done() || clock.time >= deadline) resolve(done())
        else clock.after(lookMs, head.process, look)
      }
      look()
    })
  }
}
