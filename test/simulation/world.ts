import { dataSizeFor, slotsFor } from '../../src/mirror/layout.ts'
import { Violation, Checker } from './checker.ts'
import { Client, type ClientHost } from './client.ts'
import { SimClock } from './clock.ts'
import { Dice } from './dice.ts'
import { Faults } from './faults.ts'
import { Machine } from './machine.ts'
import { Medium, sectorBytes } from './medium.ts'
import { attachAll } from './manage.ts'
import { SimNetwork } from './network.ts'
import { Operator } from './operator.ts'
import { planOf, withOperator, type Plan } from './plan.ts'
import { StateDirectory } from './store.ts'
import { Trace } from './trace.ts'
import { Head, Leg, Target } from './trees.ts'

/** Milliseconds a request may take while nothing is wrong with the world. */
const requestMsMax = 100_000
/** Milliseconds from the end of all faults until everything must be well. */
const recoveryMsMax = 400_000

/** Milliseconds between two looks of the operator. */
const restartMs = 3000

interface LegStatus {
  readonly state: string
  readonly reason?: string
}

/** One run of one seed: machines, the volume on them, its clients, and what goes wrong. */
export class World implements ClientHost {
  readonly seed: number
  readonly dice: Dice
  readonly plan: Plan
  readonly clock = new SimClock()
  readonly network: SimNetwork
  readonly trace: Trace
  readonly checker: Checker
  /** Parts of the volume. */
  readonly spans: number
  /** Where the head runs, or would. */
  headMachine: Machine
  state = new StateDirectory()
  readonly legs: Leg[] = []
  readonly faults: Faults
  readonly operator: Operator
  head: Head | null = null
  clients: Client[] = []
  /** Heads that were replaced and may not know it, and who uses them all the same. */
  private rivals: Head[] = []
  private rivalClients: Client[] = []
  problem: Error | null = null
  /** A disk was replaced: another might be the one with the data. */
  replaced = false
  operations = 0
  errors = 0
  /**
   * Acknowledged writes were lost, the first of them acknowledged then, by the checker's time: the
   * next flush of each of these that began later must say so.
   */
  private readonly untold = new Map<Client, number>()
  /** Legs that were in sync when the head was last seen alive. */
  private lastInSync = new Set<string>()
  /** Legs that were taken off when they were last seen: nobody relies on them. */
  private readonly detached = new Set<string>()
  private incarnation = 0

  constructor(seed: number, change: (plan: Plan) => Plan = (plan) => plan) {
    this.seed = seed
    this.dice = new Dice(seed)
    // Chance of its own, so that the rest of the world is the same without it.
    const operatorDice = new Dice(~seed)
    this.plan = change(withOperator(planOf(this.dice), seed, operatorDice))
    const { plan } = this
    this.trace = new Trace(this.clock)
    this.network = new SimNetwork(this.clock, this.dice.fork())
    this.network.crumbs = plan.crumbs
    this.network.latency = plan.latency
    this.network.jitter = plan.latency
    this.network.bytesPerMs = plan.bytesPerMs
    this.headMachine = this.machine('head')
    for (const leg of plan.legs) this.legs.push(this.leg(leg))
    this.spans = Math.max(...plan.legs.map(({ span }) => span)) + 1
    this.checker = new Checker((plan.dataBytes * this.spans) / sectorBytes)
    this.faults = new Faults(this, this.dice.fork())
    this.operator = new Operator(this, operatorDice)
  }

  /** Runs from the beginning to the end; throws what was found. */
  async run(): Promise<void> {
    const { plan, clock } = this
    for (const leg of this.legs) void leg.target?.start()
    this.startHead()
    await this.until(() => this.healthy(), recoveryMsMax, 'the volume starts')
    this.faults.start()
    await clock.run(clock.time + plan.trouble, () => this.problem !== null)
    this.check()
    this.faults.stop()
    this.trace.note('all faults end')
    // Everybody finds out who is still there.
    const discoveryMs = 3 * (plan.remote.pingTimeout ?? 0) + 100
    await clock.run(clock.time + discoveryMs, () => this.problem !== null)
    this.check()
    this.restartFailed()
    attachAll(this)
    await this.until(() => this.healthy(), recoveryMsMax, 'the volume recovers')
    await this.quiet('the volume is well after its last request')
    await this.audit('after recovery')
    if (plan.finalCrash) await this.powerLossOfAll()
  }

  startHead(): void {
    this.incarnation++
    const head = new Head(this.headMachine, this.plan, this.legs, this.state, this.incarnation)
    this.head = head
    this.trace.note(`head ${this.incarnation} starts`)
    head.device.watch((device) => {
      this.trace.note(`volume is ${device.state.word} ${device.state.reason}`)
      const sectors = (device.facts?.size ?? 0) / sectorBytes
      if (this.plan.shape !== 'remote' && sectors > this.checker.size) this.checker.grow(sectors)
      this.remember()
    })
    const started = (): void => {
      if (head.device.usable && !head.used) this.startClients(head)
    }
    head.device.watch(started)
    head.open().then(started, (error: unknown) => this.violated(error as Error))
  }

  /** The head's process ends without a word. */
  killHead(how: 'killed' | 'crashed'): void {
    const { head } = this
    if (head === null) return
    this.trace.note(`head ${how}`)
    this.remember()
    this.head = null
    if (how === 'killed') this.headMachine.kill(head.process)
    else this.headMachine.crash()
    for (const client of this.clients) {
      client.abandon()
      this.count(client)
    }
    this.clients = []
    // Whoever used the volume knows that something happened.
    this.untold.clear()
  }

  /** Another machine, which knows nothing, becomes the head; the one before may go on. */
  takeOver(): void {
    if (this.head !== null) {
      this.remember()
      this.rivals.push(this.head)
      for (const client of this.clients) client.blind = true
      this.rivalClients.push(...this.clients)
      this.clients = []
      this.head = null
    }
    this.headMachine = this.machine(`head${this.incarnation + 1}`)
    this.state = new StateDirectory()
    this.startHead()
  }

  /** Replaced heads are stopped for good. */
  endRivals(): void {
    for (const { process } of this.rivals) process.machine.kill(process)
    for (const client of this.rivalClients) {
      client.abandon()
      this.count(client)
    }
    this.rivals = []
    this.rivalClients = []
  }

  /** An orderly end; the head starts again at once. */
  stopHead(): void {
    const { head } = this
    if (head?.opened !== true) return
    this.trace.note('head stops')
    for (const client of this.clients) client.stop()
    head.opened = false
    head.device.close().then(
      () => {
        if (this.head !== head) return
        this.killHead('killed')
        this.startHead()
      },
      (error: unknown) => this.violated(error as Error),
    )
  }

  violated(problem: Error): void {
    if (this.problem !== null) return
    this.problem = problem
    this.trace.note(`FOUND ${problem.message}`)
  }

  flushed(client: Client, start: number, error: Error | null): void {
    if (error !== null) {
      this.untold.delete(client)
      return
    }
    if ((this.untold.get(client) ?? Infinity) <= start)
      this.violated(new Violation('a flush was acknowledged after acknowledged writes were lost'))
    this.checker.endFlush(start)
  }

  legStatus(): Record<string, LegStatus> {
    const described = this.head?.mirrors.map((mirror) => mirror.describe()['legs']) ?? []
    return Object.assign({}, ...described) as Record<string, LegStatus>
  }

  /** A client of the head as it is now, which does nothing by itself. */
  addClient(name: string, head = this.head!): Client {
    const { process, device } = head
    const client = new Client(name, this, process, device, this.plan.workload)
    this.clients.push(client)
    return client
  }

  get sectorsPerLeg(): number {
    return this.checker.size / this.spans
  }

  /** Whether a head that was replaced may still be at work. */
  get rivalled(): boolean {
    return this.rivals.length > 0
  }

  /** The other legs of the same part. */
  peers(leg: Leg): Leg[] {
    return this.legs.filter((other) => other !== leg && other.plan.span === leg.plan.span)
  }

  private machine(name: string): Machine {
    return new Machine(name, this.clock, this.network, this.dice.fork())
  }

  private leg(plan: Plan['legs'][number]): Leg {
    const local = plan.kind === 'local'
    const machine = local ? this.headMachine : this.machine(plan.name)
    const bytes = this.plan.shape === 'remote' ? this.plan.dataBytes : this.plan.legBytes
    const medium = new Medium(plan.name, machine, bytes)
    medium.forces = plan.forces
    const target = local ? null : new Target(machine, medium)
    const leg = new Leg(plan, machine, medium, target)
    medium.lost = () => this.lost(leg)
    return leg
  }

  private startClients(head: Head): void {
    const { plan } = this
    if (!head.opened) return
    head.used = true
    const rival = this.rivals.includes(head)
    for (let at = 0; at < plan.clients; at++) {
      const client = this.addClient(`${head.number}${'abcdef'[at]!}`, head)
      client.start()
      if (!rival) continue
      client.blind = true
      this.rivalClients.push(this.clients.pop()!)
    }
  }

  /** A leg lost power. What no other leg can vouch for and was not flushed may be gone. */
  private lost(leg: Leg): void {
    this.trace.note(`the disk of ${leg.name} lost power`)
    this.remember()
    if (this.detached.has(leg.name)) return
    const sectors = this.sectorsPerLeg
    const base = leg.plan.span * sectors
    const alone = !this.peers(leg).some(({ name }) => this.lastInSync.has(name))
    if (alone) this.checker.doubtInFlight(base, sectors)
    for (const sector of this.checker.unflushed()) {
      if (sector < base || sector >= base + sectors) continue
      if (this.heldElsewhere(leg, sector)) continue
      const since = this.checker.acknowledgedSince(sector)
      if (since !== null && !this.holds(leg, sector)) this.untell(sector, since)
      this.checker.allowLoss(sector)
    }
  }

  private untell(sector: number, since: number): void {
    if (!this.clients.every((client) => this.untold.has(client)))
      this.trace.note(`acknowledged writes are lost, such as sector ${sector}`)
    for (const client of this.clients)
      this.untold.set(client, Math.min(since, this.untold.get(client) ?? Infinity))
  }

  /** A leg left: what the others lost with their power, before the head knew, went with it. */
  private departed(leg: Leg): void {
    const others = this.peers(leg).filter(({ name }) => this.lastInSync.has(name))
    const base = leg.plan.span * this.sectorsPerLeg
    for (const sector of this.checker.unflushed()) {
      if (sector < base || sector >= base + this.sectorsPerLeg) continue
      const lost = others.every((other) => other.medium.doubtful(sector))
      if (others.length > 0 && lost) this.checker.allowLoss(sector)
    }
  }

  private heldElsewhere(lost: Leg, sector: number): boolean {
    return this.peers(lost).some(
      (leg) =>
        this.lastInSync.has(leg.name) &&
        // Whoever lost power since cannot know whether it was lucky.
        !leg.medium.doubtful(sector) &&
        this.holds(leg, sector),
    )
  }

  private holds(leg: Leg, sector: number): boolean {
    const base = leg.plan.span
    const at = (sector - base * this.sectorsPerLeg) * sectorBytes
    return this.checker.mayHold(sector, leg.medium.content, at)
  }

  /** Notes which legs the head takes to be in sync, while it can be asked. */
  private remember(): void {
    if (this.head?.process.alive !== true || this.head.mirrors.length === 0) return
    const status = Object.entries(this.legStatus())
    if (status.length === 0) return
    for (const [name, { state }] of status)
      if (state === 'detached') this.detached.add(name)
      else if (state === 'in-sync' || state === 'syncing') this.detached.delete(name)
    const before = this.lastInSync
    this.lastInSync = new Set(
      status.filter(([, leg]) => leg.state === 'in-sync').map(([name]) => name),
    )
    for (const leg of this.legs)
      if (before.has(leg.name) && !this.lastInSync.has(leg.name)) this.departed(leg)
  }

  private count(client: Client): void {
    this.operations += client.operations
    this.errors += client.errors
  }

  healthy(): boolean {
    const { head } = this
    if (head?.opened !== true || head.device.state.word !== 'online') return false
    if (head.mirrors.length === 0) return true
    const status = this.legStatus()
    if (!this.legs.every((leg) => status[leg.name]?.state === 'in-sync')) return false
    // A volume that may grow is as large as its smallest leg allows.
    const { size, extentSize } = this.plan.settings
    const room = Math.min(...this.legs.map(({ medium }) => medium.size))
    const full = dataSizeFor(room, extentSize!, slotsFor(this.legs.length))
    return size !== null || head.device.facts!.size === full
  }

  /** The operator starts a head again that another has fenced out, until it serves. */
  private restartFailed(): void {
    if (this.healthy()) return
    const { word, reason } = this.head?.device.state ?? {}
    if (word === 'failed' || reason?.includes('newer head') === true) {
      this.trace.note('the operator starts the head again')
      this.killHead('killed')
      this.startHead()
    }
    this.clock.after(restartMs, null, () => {
      this.restartFailed()
    })
  }

  /** Lets the clients finish; a request that took too long may have cost a leg. */
  private async quiet(what: string): Promise<void> {
    for (const client of this.clients) client.stop()
    const idle = () => this.clients.every((client) => client.inFlight === 0)
    await this.until(idle, requestMsMax, 'all requests complete')
    await this.until(() => this.healthy(), recoveryMsMax, what)
  }

  private async until(done: () => boolean, ms: number, what: string): Promise<void> {
    const { clock } = this
    const reached = await clock.run(clock.time + ms, () => this.problem !== null || done())
    this.check()
    if (reached) return
    const head = this.head?.device.state
    const legs = JSON.stringify(this.legStatus())
    const stuck = this.clients.flatMap((client) => client.stuck(ms / 2)).join(', ')
    throw this.found(
      `not within ${ms} ms: ${what}; volume ${head?.word ?? 'down'} ${head?.reason ?? ''}; ` +
        `legs ${legs}; waiting: ${stuck}`,
    )
  }

  /** Reads everything twice through the volume, then every leg by itself. */
  async audit(when: string): Promise<void> {
    const { head, checker } = this
    this.trace.note(`audit ${when}`)
    const reader = new Client('audit', this, head!.process, head!.device, this.plan.workload)
    reader.silent = true
    for (let pass = 0; pass < 2; pass++)
      for (let at = 0; at < checker.size; at += 64) {
        reader.read(at, Math.min(64, checker.size - at))
        await this.until(() => reader.inFlight === 0, requestMsMax, 'a read completes')
      }
    // The first flush may have to say that something was lost.
    const reads = reader.errors
    for (let pass = 0; pass < 2; pass++) {
      reader.errors = reads
      reader.flush()
      await this.until(() => reader.inFlight === 0, requestMsMax, 'a flush completes')
    }
    if (reader.errors > 0) throw this.found(`requests fail although all is well ${when}`)
    for (const leg of this.legs) this.auditLeg(leg, when)
  }

  private auditLeg(leg: Leg, when: string): void {
    const base = leg.plan.span
    const sectors = this.sectorsPerLeg
    for (let at = base * sectors; at < (base + 1) * sectors; at++) {
      if (this.holds(leg, at)) continue
      this.checker.suspect = at
      throw this.found(
        `${leg.name} is in sync and holds other bytes than the volume at sector ${at} ${when}: ` +
          this.checker.describe(at),
      )
    }
  }

  private async powerLossOfAll(): Promise<void> {
    this.trace.note('power loss of everything')
    this.killHead('crashed')
    for (const leg of this.legs) if (leg.target !== null) this.faults.crashTarget(leg)
    this.headMachine.boot()
    for (const leg of this.legs) if (leg.target !== null) this.faults.bootTarget(leg)
    this.startHead()
    await this.until(() => this.healthy(), recoveryMsMax, 'the volume starts after a power loss')
    await this.quiet('the volume is well after its last request since the power loss')
    await this.audit('after the power loss')
  }

  check(): void {
    if (this.problem !== null) throw this.problem
  }

  private found(message: string): Error {
    const problem = new Violation(message)
    this.violated(problem)
    return problem
  }
}
