import { expect } from 'chai'
import type { StorageError } from '../../src/base/errors.ts'
import { KiB } from '../../src/base/size.ts'
import { metadataBytes, slotsFor } from '../../src/mirror/layout.ts'
import type { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { MirrorSettings } from '../../src/mirror/settings.ts'
import { Checker } from './checker.ts'
import { Client } from './client.ts'
import { legName, spanOf, type LegPlan, type Plan } from './plan.ts'
import type { Head, Leg } from './trees.ts'
import { World } from './world.ts'

export interface StageOptions {
  /** A mirror, or remotes without one. */
  readonly shape?: Plan['shape']
  /** Where each leg is; `left`, `right`, `third`, `fourth` by name. */
  readonly legs?: readonly LegPlan['kind'][]
  readonly settings?: Partial<MirrorSettings>
  readonly hold?: number
  /** What else is known of the remotes. */
  readonly remote?: Partial<Plan['remote']>
  /** The leg that is read only when no other can answer. */
  readonly readLast?: string
  /** Whether forced writes leave the rest of a disk's cache alone. */
  readonly forces?: boolean
  /** Whether the volume grows with its legs. */
  readonly grows?: boolean
  /** Of each mirror. */
  readonly extents?: number
  readonly seed?: number
}

const extentSize = 64 * KiB
/** Milliseconds of simulated time that a scenario waits for anything. */
const patience = 300_000

/** A world in which nothing happens by itself: a scenario says what, and when. */
export class Stage {
  readonly world: World
  private hand: Client | null = null
  private handHead: unknown = null

  constructor(options: StageOptions = {}) {
    const {
      shape = 'mirror',
      legs = ['remote', 'remote'],
      settings = {},
      hold = 500,
      remote = {},
      seed = 1,
      readLast = '',
      forces = false,
      grows = false,
      extents = 8,
    } = options
    const dataSize = extents * extentSize
    const slots = slotsFor(legs.length)
    this.world = new World(seed, (plan): Plan => ({
      ...plan,
      shape,
      legs: legs.map((kind, at) => {
        const name = legName(at)
        return { name, span: spanOf(shape, at), kind, readLast: name === readLast, forces }
      }),
      dataBytes: dataSize,
      legBytes: dataSize + (grows ? metadataBytes({ dataSize, extentSize, slots }) : 2048 * KiB),
      settings: {
        size: grows ? null : dataSize,
        extentSize,
        legTimeoutMs: 2000,
        legRetryMs: 50,
        legRetryMsMax: 500,
        suspendMs: 5000,
        ...settings,
      },
      remote: { hold, pingInterval: 200, pingTimeout: 600, connectTimeout: 500, ...remote },
      latency: 0.1,
      bytesPerMs: 100_000,
      faults: [],
      eyes: new Set(),
      clients: 0,
    }))
  }

  /** Starts everything and waits until it is well. */
  async start(): Promise<this> {
    for (const leg of this.world.legs) void leg.target?.start()
    this.world.startHead()
    await this.healthy()
    return this
  }

  leg(name: string): Leg {
    return this.world.legs.find((leg) => leg.name === name)!
  }

  get mirror(): MirrorDriver {
    return this.world.head!.mirrors[0]!
  }

  /** Every leg's word. */
  get legs(): Record<string, string> {
    const entries = Object.entries(this.world.legStatus())
    return Object.fromEntries(entries.map(([name, { state }]) => [name, state]))
  }

  get volume(): string {
    return this.world.head?.device.state.word ?? 'down'
  }

  /** Lets simulated time pass. */
  async pass(ms: number): Promise<void> {
    const { world } = this
    await world.clock.run(world.clock.time + ms, () => world.problem !== null)
    world.check()
  }

  async until(what: string, done: () => boolean): Promise<void> {
    const { world } = this
    await world.clock.run(world.clock.time + patience, () => world.problem !== null || done())
    world.check()
    const history = () => `${what}\n${world.trace.about(-1, 30).join('\n')}`
    expect(done(), done() ? '' : history()).to.equal(true)
  }

  healthy(): Promise<void> {
    return this.until('everything is in sync', () => this.world.healthy())
  }

  legIs(name: string, state: string): Promise<void> {
    return this.until(`${name} is ${state}`, () => this.legs[name] === state)
  }

  /** Writes new bytes to sectors; the error it ended with, null when it was acknowledged. */
  write(first: number, sectors: number, flags = 0): Promise<StorageError | null> {
    return this.ask((client) => client.write(first, sectors, flags))
  }

  read(first: number, sectors: number): Promise<StorageError | null> {
    return this.ask((client) => client.read(first, sectors))
  }

  flush(): Promise<StorageError | null> {
    return this.ask((client) => client.flush())
  }

  zero(first: number, sectors: number): Promise<StorageError | null> {
    return this.ask((client) => client.zero(first, sectors))
  }

  trim(first: number, sectors: number): Promise<StorageError | null> {
    return this.ask((client) => client.trim(first, sectors))
  }

  /** Something asked of the volume that is not waited for. */
  begin(what: (client: Client) => void): Client {
    const client = this.client()
    what(client)
    return client
  }

  /** Waits for a promise of the tree while time passes. */
  async result<T>(promise: Promise<T>): Promise<T> {
    let over = false
    const done = promise.finally(() => (over = true))
    done.catch(() => undefined)
    await this.until('the command ends', () => over)
    return done
  }

  /** Reads everything twice, compares the legs with it and with each other. */
  audit(): Promise<void> {
    return this.world.audit('at the end')
  }

  killTarget(name: string): void {
    const leg = this.leg(name)
    this.world.trace.note(`target of ${name} killed`)
    leg.machine.kill(leg.target!.process!)
  }

  crashTarget(name: string): void {
    this.world.faults.crashTarget(this.leg(name))
  }

  startTarget(name: string): void {
    this.world.faults.bootTarget(this.leg(name))
  }

  killHead(): void {
    this.world.killHead('killed')
  }

  crashHead(): void {
    this.world.killHead('crashed')
    this.world.headMachine.boot()
  }

  startHead(): void {
    this.world.startHead()
  }

  /** Another machine becomes the head, with no memory of its own. */
  takeOver(): void {
    this.world.takeOver()
  }

  /** Another disk is put in the place of a leg's, and an operator says that this is meant. */
  async replaceDisk(name: string): Promise<void> {
    this.killTarget(name)
    this.leg(name).medium.replace()
    this.startTarget(name)
    await this.attachReplaced(name)
  }

  /** The same behind a target that runs on: one that passes on what another one exports. */
  async exchangeDisk(name: string): Promise<void> {
    const { medium } = this.leg(name)
    medium.replace()
    medium.announce()
    await this.attachReplaced(name)
  }

  private async attachReplaced(name: string): Promise<void> {
    await this.until(`${name} is refused`, () => {
      const { state, reason = '' } = this.world.legStatus()[name]!
      return state === 'failed' && reason.includes('is blank')
    })
    await this.result(this.mirror.attachLeg(name, { replace: true }))
  }

  partition(name: string): void {
    this.world.trace.note(`partition of ${name}`)
    this.world.network.cut('head', name)
    this.world.network.cut(name, 'head')
  }

  heal(name: string): void {
    this.world.trace.note(`partition of ${name} ends`)
    this.world.network.heal('head', name)
    this.world.network.heal(name, 'head')
  }

  private client(): Client {
    const { world } = this
    if (this.hand === null || this.handHead !== world.head) {
      this.handHead = world.head
      this.hand = world.addClient('hand')
    }
    return this.hand
  }

  private async ask(what: (client: Client) => void): Promise<StorageError | null> {
    const client = this.begin(what)
    await this.until('the request completes', () => client.inFlight === 0)
    return client.lastError
  }
}

/** A client of a head that went its own way: what it writes the volume must never show. */
export function otherSide(stage: Stage, head: Head): Client {
  const { world } = stage
  const checker = new Checker(world.checker.size)
  for (let value = 0; value < 1000; value++)
    checker.endWrite(checker.beginWrite(0, 1, false), true, true)
  const host = {
    checker,
    trace: world.trace,
    violated: (problem: Error) => {
      world.violated(problem)
    },
    flushed: () => undefined,
  }
  return new Client('other', host, head.process, head.device, world.plan.workload)
}
