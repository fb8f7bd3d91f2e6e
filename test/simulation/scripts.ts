import { KiB } from '../../src/base/size.ts'
import { Flag } from '../../src/device/request.ts'
import { compareLegs } from './audit.ts'
import { failFlush } from './blows.ts'
import type { Client } from './client.ts'
import { manage } from './manage.ts'
import type { LegPlan } from './plan.ts'
import { putInPlace } from './put-back.ts'
import { Stage, type StageOptions } from './stage.ts'
import type { Head, Leg } from './trees.ts'
import type { World } from './world.ts'

/** Milliseconds that a step takes at most. */
const stepMs = 3000
/** Milliseconds until a leg whose target has ended is missing, and a while longer. */
const goneMs = 400
/** Milliseconds until nothing is under way any more, mostly. */
const stillMs = 3
/** Sectors of an extent. */
const extent = 128

/** Does what a script says in a world in which anything may be gone meanwhile. */
export class Actor {
  readonly stage: Stage
  readonly world: World
  private clients: Client[] = []
  private served: Head | null = null

  constructor(stage: Stage) {
    this.stage = stage
    this.world = stage.world
  }

  /** Has two clients of the head as it is now ask for something, without waiting for it. */
  async ask(what: (one: Client, other: Client) => void): Promise<void> {
    const { world } = this
    await this.pass(stepMs, () => world.head?.device.usable === true)
    const { head } = world
    if (head?.device.usable !== true) return
    if (this.served !== head) {
      this.served = head
      this.clients = ['one', 'other'].map((name) => world.addClient(name))
    }
    what(this.clients[0]!, this.clients[1]!)
  }

  /** The clients that were asked last; of a head that was replaced they may still ask something. */
  get asked(): readonly Client[] {
    return this.clients
  }

  /** Asks for something and waits for the answer; then the legs in sync are equal. */
  async do(what: (one: Client, other: Client) => void): Promise<void> {
    await this.ask(what)
    await this.idle()
    await this.pass(stillMs, () => compareLegs(this.world))
  }

  idle(): Promise<void> {
    return this.pass(stepMs, () => this.clients.every((client) => client.inFlight === 0))
  }

  /** Lets time pass, until `done` if it comes to that. */
  async pass(ms: number, done: () => boolean = () => false): Promise<void> {
    const { world } = this
    await world.clock.run(world.clock.time + ms, () => world.problem !== null || done())
    world.check()
  }

  well(): Promise<void> {
    return this.pass(stepMs, () => this.world.healthy())
  }

  leg(name: string): Leg {
    return this.stage.leg(name)
  }

  /** The leg's target ends, and starts again later. */
  kill(name: string): void {
    const { machine, target } = this.leg(name)
    if (target?.process?.alive === true) machine.kill(target.process)
  }

  /** Nothing goes from one machine to the other, nor back. */
  cut(a: string, b: string): void {
    this.world.trace.note(`partition of ${a} and ${b}`)
    this.world.network.cut(a, b)
    this.world.network.cut(b, a)
  }

  start(name: string): void {
    this.world.faults.bootTarget(this.leg(name))
  }
}

/** A short life of a volume: every effect in it is a point at which something may go wrong. */
export interface Script {
  readonly name: string
  readonly houses: readonly (keyof typeof houses)[]
  readonly options?: StageOptions
  readonly play: (actor: Actor) => Promise<void>
}

const pair: readonly LegPlan['kind'][] = ['remote', 'remote']

/** What volumes the scripts are played on. */
export const houses = {
  /** Forced writes leave the rest of a disk's cache alone. */
  forced: { legs: pair, forces: true },
  /** Forced writes are writes and a flush. */
  flushed: { legs: pair, forces: false },
  local: { legs: ['local', 'remote'], forces: true },
  noLog: { legs: pair, forces: true, settings: { intentLog: false } },
  two: { legs: pair, forces: true, settings: { minInSync: 2 } },
  /** No mirror. */
  plain: { shape: 'remote', legs: ['remote'], forces: true },
  three: { legs: ['remote', 'remote', 'remote'], forces: true, settings: { minInSync: 2 } },
} satisfies Record<string, StageOptions>

/** One writes to the first extent, the other to the second. */
function writes(one: Client, other: Client): void {
  one.write(0, 16)
  other.write(extent, 8)
}

async function stir(actor: Actor): Promise<void> {
  await actor.do(writes)
  await actor.do((one) => one.flush())
  await actor.do((_, other) => other.flush())
}

export const scripts: readonly Script[] = [
  {
    name: 'writes',
    houses: ['forced', 'flushed', 'local', 'noLog', 'plain'],
    async play(actor) {
      await stir(actor)
      await actor.do(writes)
      await actor.do((one) => one.write(4, 8, Flag.fua))
      await actor.do((one, other) => {
        one.write(0, 8)
        other.write(4, 8)
      })
      await actor.do((one, other) => {
        one.write(20, 8)
        other.flush()
        other.write(extent + 64, 4)
      })
      await actor.do((one) => one.zero(0, 4))
      await actor.pass(150)
      await actor.do((one) => one.read(0, 16))
      await stir(actor)
    },
  },
  {
    name: 'leg out and back',
    houses: ['forced', 'flushed', 'local', 'noLog', 'three'],
    async play(actor) {
      await actor.do(writes)
      actor.kill('right')
      await actor.do(writes)
      await actor.do((one) => one.flush())
      actor.start('right')
      await actor.ask((one) => one.write(2, 4))
      await actor.well()
      await stir(actor)
    },
  },
  {
    name: 'last leg',
    houses: ['forced', 'flushed', 'noLog'],
    async play(actor) {
      await stir(actor)
      actor.stage.partition('right')
      await actor.do((one) => one.write(0, 8))
      await actor.do((_, other) => other.write(2, 4))
      await actor.do((one) => one.flush())
      await actor.do((_, other) => other.flush())
      actor.stage.heal('right')
      await actor.ask((one) => one.write(8, 8))
      await actor.well()
      await actor.do((one) => one.flush())
      await actor.do((_, other) => other.flush())
    },
  },
  {
    name: 'short',
    houses: ['two', 'three'],
    async play(actor) {
      await stir(actor)
      actor.kill('right')
      await actor.ask((one) => one.write(0, 8))
      await actor.pass(goneMs)
      await actor.ask((_, other) => other.write(2, 4))
      await actor.pass(goneMs)
      actor.start('right')
      await actor.idle()
      await actor.do((_, other) => other.flush())
      await actor.well()
    },
  },
  {
    name: 'restart',
    houses: ['forced', 'local', 'noLog'],
    async play(actor) {
      await actor.do(writes)
      await actor.ask(writes)
      actor.stage.killHead()
      actor.stage.startHead()
      await actor.do((one) => one.read(0, 16))
      await stir(actor)
      actor.world.stopHead()
      await actor.pass(20)
      await actor.do((one) => one.read(0, 16))
      await stir(actor)
    },
  },
  {
    name: 'growth',
    houses: ['forced', 'flushed', 'noLog'],
    options: { grows: true },
    async play(actor) {
      await stir(actor)
      await actor.do(writes)
      for (const { medium } of actor.world.legs) medium.grow(640 * KiB)
      await actor.do((one) => one.write(2, 4))
      await actor.well()
      await actor.do(writes)
      await actor.ask(writes)
      await actor.pass(0.3)
      actor.stage.killHead()
      actor.stage.startHead()
      await actor.do((one) => one.flush())
    },
  },
  {
    name: 'detach and attach',
    houses: ['forced', 'local'],
    async play(actor) {
      const { world } = actor
      await actor.do(writes)
      manage(world, actor.leg('right'), 'detach', world.dice)
      await actor.do(writes)
      await stir(actor)
      await actor.pass(3000)
      await stir(actor)
    },
  },
  {
    name: 'older head',
    houses: ['forced', 'three'],
    async play(actor) {
      const { world } = actor
      await stir(actor)
      actor.stage.killHead()
      world.takeOver()
      await actor.do(writes)
      actor.cut('head2', 'right')
      await actor.do(writes)
      await actor.do((one) => one.flush())
      actor.stage.killHead()
      actor.cut('head', 'left')
      world.returnOlder(world.dice)
      await actor.do((one) => one.read(0, 16))
      world.network.healAll()
      await actor.do(writes)
    },
  },
  {
    name: 'two heads',
    houses: ['forced', 'three'],
    async play(actor) {
      const { world } = actor
      await stir(actor)
      const [reader] = actor.asked
      world.takeOver()
      for (let turn = 0; turn < 4; turn++) {
        if (reader?.serves === true) reader.read(0, 16)
        await actor.do((one) => one.write(0, 16))
      }
      await stir(actor)
    },
  },
  {
    name: 'rolled back',
    options: { settings: { intentIdleMs: 20 } },
    houses: ['forced', 'local', 'three'],
    async play(actor) {
      const { world } = actor
      await actor.do(writes)
      // The log is empty, then and when the copy is put back: nothing else says where legs differ.
      await actor.pass(100)
      const copy = Buffer.from(actor.leg('right').medium.content)
      actor.stage.killHead()
      actor.stage.startHead()
      await stir(actor)
      await actor.pass(100)
      // While it is filled, or not yet, what the others have is all that there is.
      if (world.healthy()) {
        actor.stage.killHead()
        putInPlace(world, actor.leg('right'), copy, 5)
        actor.stage.startHead()
      }
      await actor.do((one) => one.read(0, 16))
      await actor.do((one) => one.write(64, 8))
      await actor.well()
      await stir(actor)
    },
  },
  {
    name: 'put back in a run',
    options: { settings: { intentIdleMs: 20 } },
    // Of two, the other may fail while one is put back: then there is nothing to go on from.
    houses: ['three'],
    async play(actor) {
      const { world } = actor
      await actor.do(writes)
      await actor.pass(100)
      const { head } = world
      const copy = Buffer.from(actor.leg('right').medium.content)
      await stir(actor)
      // There is a mark since then: where the other leg fails meanwhile, nothing else could tell.
      await actor.pass(100)
      for (const away of [5, goneMs]) {
        await actor.well()
        // Another head may have died with what it knew.
        if (!world.healthy() || world.head !== head) return
        putInPlace(world, actor.leg('right'), copy, away)
        await actor.do((one) => one.write(64, 8))
        await actor.do((one) => one.read(0, 16))
      }
      await actor.well()
      await stir(actor)
    },
  },
  {
    name: 'put back unmarked',
    options: { settings: { intentIdleMs: 100 } },
    houses: ['three'],
    async play(actor) {
      const { world } = actor
      await actor.do(writes)
      await actor.pass(500)
      const { head } = world
      const isUndisturbed = (): boolean => world.healthy() && world.head === head
      for (const away of [5, goneMs]) {
        const copy = Buffer.from(actor.leg('right').medium.content)
        // Flushed, and not marked yet: its superblock does not tell that it was put back.
        await actor.do((one) => one.write(0, 16))
        await actor.do((one) => one.flush())
        if (!isUndisturbed()) return
        putInPlace(world, actor.leg('right'), copy, away)
        // While nothing is written it seems to have lost nothing.
        await actor.pass(20)
        await actor.do((one) => {
          for (let at = 0; at < 12; at++) one.read(at, 1)
        })
        await actor.do((_, other) => other.write(extent, 8))
        await actor.well()
        await actor.do((one) => one.read(0, 16))
      }
      await stir(actor)
    },
  },
  {
    name: 'failed flush forgotten',
    houses: ['forced', 'flushed', 'local'],
    async play(actor) {
      await stir(actor)
      await actor.do(writes)
      failFlush(actor.leg('right'))
      await actor.ask((one) => one.flush())
      await actor.pass(stillMs)
      // Whoever saw it fail is gone, in the same boot.
      actor.kill('right')
      actor.start('right')
      await actor.idle()
      await actor.well()
      await stir(actor)
    },
  },
]
