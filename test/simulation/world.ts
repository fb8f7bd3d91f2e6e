import type { Device } from '../../src/device/device.ts'
import { dataSizeFor, slotsFor } from '../../src/mirror/layout.ts'
import { audit } from './audit.ts'
import { Violation, Checker } from './checker.ts'
import { Client, type ClientHost } from './client.ts'
import { SimClock } from './clock.ts'
import { Dice } from './dice.ts'
import { Effects } from './effects.ts'
import { Faults } from './faults.ts'
import { Losses } from './losses.ts'
import { Machine } from './machine.ts'
import { Medium, sectorBytes } from './medium.ts'
import { attachAll, startAlone, startWithoutPutBack } from './manage.ts'
import { SimNetwork } from './network.ts'
import { Operator } from './operator.ts'
import { planOf, withOperator, type Plan } from './plan.ts'
import { StateDirectory } from './store.ts'
import { Stillness } from './stillness.ts'
import { Trace } from './trace.ts'
import { Head, Leg, Target } from './trees.ts'
import { delaysOf, widen } from './widen.ts'

/** Milliseconds a request may take while nothing is wrong with the world. */
export const requestMsMax = 100_000
/** Milliseconds from the end of all faults until everything must be well. */
const recoveryMsMax = 400_000

/** Milliseconds between two looks of the operator. */
const restartMs = 3000

/** Makes of a seed another one: for chance of its own. */
const wideningSeed = 0x3c6ef372
const delaySeed = 0x1f83d9ab

interface LegStatus {
  readonly state: string
  readonly reason?: string
  /** Requests under way. */
  readonly pending: number
}

/** A machine that is the head, or was, and what it remembers. */
interface Seat {
  readonly machine: Machine
  readonly state: StateDirectory
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
  readonly losses = new Losses(this)
  readonly effects = new Effects(this)
  head: Head | null = null
  clients: Client[] = []
  /** Heads that were replaced and may not know it, and who uses them all the same. */
  private rivals: Head[] = []
  private rivalClients: Client[] = []
  /** Where heads were that were replaced. */
  private readonly formerSeats: Seat[] = []
  problem: Error | null = null
  /** A disk was replaced: another might be the one with the data. */
  replaced = false
  /** Something went wrong while a head started: nobody may have heard whose claims it replaced. */
  startDisturbed = false
  operations = 0
  errors = 0
  private incarnation = 0

  constructor(seed: number, change: (plan: Plan) => Plan = (plan) => plan) {
    this.seed = seed
    this.dice = new Dice(seed)
    // Chance of its own, so that the rest of the world is the same without it.
    const operatorDice = new Dice(~seed)
    this.plan = change(
      widen(withOperator(planOf(this.dice), seed, operatorDice), new Dice(seed ^ wideningSeed)),
    )
    const { plan } = this
    this.trace = new Trace(this.clock)
    this.network = new SimNetwork(this.clock, this.dice.fork())
    this.network.crumbs = plan.crumbs
    this.network.latency = plan.latency
    this.network.jitter = plan.latency
    this.network.bytesPerMs = plan.bytesPerMs
    this.network.watched = (to, from) => {
      const leg = this.legs.find(
        ({ machine, target }) => target !== null && (machine === to || machine === from),
      )
      this.effects.happen('packet', leg ?? null)
    }
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
    if (plan.eyes.has('delays')) this.clock.delay(delaysOf(new Dice(this.seed ^ delaySeed)))
    if (plan.eyes.has('still')) new Stillness(this, new Dice(~this.seed ^ wideningSeed)).start()
    await clock.run(clock.time + plan.trouble, () => this.problem !== null)
    this.check()
    await this.conclude()
  }

  /** Ends all faults, has everything become well, and looks at all of it. */
  async conclude(): Promise<void> {
    const { plan, clock } = this
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
    // From here on no request may fail, and a packet that is put off costs a connection.
    await clock.endDelays(() => this.problem !== null)
    await this.quiet('the volume is well after what was put off')
    await this.audit('after recovery')
    if (plan.finalCrash) await this.powerLossOfAll()
  }

  startHead(): void {
    this.incarnation++
    this.state.watched = (done) => {
      this.effects.happen(done ? 'saved' : 'save', null)
    }
    const head = new Head(this.headMachine, this.plan, this.legs, this.state, this.incarnation)
    this.head = head
    this.trace.note(`head ${this.incarnation} starts`)
    head.device.watch((device) => {
      this.trace.note(`volume is ${device.state.word} ${device.state.reason}`)
      this.effects.happen('state', null)
      const sectors = (device.facts?.size ?? 0) / sectorBytes
      if (this.plan.shape !== 'remote' && sectors > this.checker.size) this.checker.grow(sectors)
      this.losses.remember()
    })
    for (const [span, part] of head.parts.entries()) this.hear(head, span, part)
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
    this.startDisturbed ||= !head.device.usable
    this.losses.remember()
    this.head = null
    if (how === 'killed') this.headMachine.kill(head.process)
    else this.headMachine.crash()
    for (const client of this.clients) {
      client.abandon()
      this.count(client)
    }
    this.clients = []
    this.losses.forget()
  }

  /** Another machine, which knows nothing, becomes the head; the one before may go on. */
  takeOver(): void {
    const seat = {
      machine: this.machine(`head${this.incarnation + 1}`),
      state: new StateDirectory(),
    }
    this.sit(seat)
  }

  /** A machine that was the head before becomes it again, with what it remembers. */
  returnOlder(dice: Dice): void {
    if (this.formerSeats.length === 0) return
    const seat = dice.pick(this.formerSeats)
    this.trace.note(`${seat.machine.name} is the head again`)
    this.formerSeats.splice(this.formerSeats.indexOf(seat), 1)
    for (const rival of this.rivals)
      if (rival.process.machine === seat.machine) seat.machine.kill(rival.process)
    if (!seat.machine.up) seat.machine.boot()
    this.sit(seat)
  }

  private sit({ machine, state }: Seat): void {
    if (this.head !== null) {
      this.losses.remember()
      this.rivals.push(this.head)
      this.rivalClients.push(...this.clients)
      this.clients = []
      this.head = null
    }
    this.formerSeats.push({ machine: this.headMachine, state: this.state })
    this.headMachine = machine
    this.state = state
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
    this.losses.flushed(client, start, error)
  }

  /** The head that serves: the newest that does, of those that may not know of each other. */
  get server(): Head | null {
    const serves = ({ process, device }: Head): boolean => process.alive && device.usable
    if (this.head !== null && (serves(this.head) || this.rivals.length === 0)) return this.head
    return this.rivals.findLast(serves) ?? this.head
  }

  legStatus(head = this.head): Record<string, LegStatus> {
    const described = head?.mirrors.map((mirror) => mirror.describe()['legs']) ?? []
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

  /** Notes when a head announces that a part has lost its cache. */
  private hear(head: Head, span: number, part: Device): void {
    let bootId: string | null = null
    part.watch(({ facts }) => {
      const now = facts?.bootId ?? null
      const other = bootId !== null && now !== bootId
      bootId = now
      if (other && this.head === head) this.losses.announced(span)
    })
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
    medium.dropsUnwritten = this.plan.eyes.has('drops')
    const target = local ? null : new Target(machine, medium)
    const leg = new Leg(plan, machine, medium, target)
    const { effects } = this
    medium.claimed = () => {
      effects.happen('claim', leg)
    }
    medium.watched = (operation, offset, done) => {
      effects.happen(done ? 'done' : effects.kindOf(medium, operation, offset), leg)
    }
    medium.lost = (how) => this.losses.lost(leg, how)
    medium.distrusted = () => {
      this.losses.distrusted(leg)
    }
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
      if (rival) this.rivalClients.push(this.clients.pop()!)
    }
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
    if (this.startDisturbed) startWithoutPutBack(this)
    startAlone(this)
    this.clock.after(restartMs, null, () => {
      this.restartFailed()
    })
  }

  /** Lets the clients finish; a request that took too long may have cost a leg. */
  private async quiet(what: string): Promise<void> {
    for (const client of this.clients) client.stop()
    const idle = () => this.clients.every((client) => client.inFlight === 0)
    await this.until(idle, requestMsMax, 'all requests complete')
    // A command may keep clients waiting for as long as what the leg was asked for before takes.
    const still = (): boolean => this.healthy() && this.head!.commands === 0
    await this.until(still, recoveryMsMax, what)
  }

  async until(done: () => boolean, ms: number, what: string): Promise<void> {
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
  audit(when: string): Promise<void> {
    return audit(this, when)
  }

  private async powerLossOfAll(): Promise<void> {
    this.trace.note('power loss of everything')
    this.killHead('crashed')
    for (const leg of this.legs) if (leg.target !== null) this.faults.crashTarget(leg)
    this.headMachine.boot()
    for (const leg of this.legs) if (leg.target !== null) this.faults.bootTarget(leg)
    this.startHead()
    // Who was to attach a leg again is gone with the head.
    attachAll(this)
    await this.until(() => this.healthy(), recoveryMsMax, 'the volume starts after a power loss')
    await this.quiet('the volume is well after its last request since the power loss')
    await this.audit('after the power loss')
  }

  check(): void {
    if (this.problem !== null) throw this.problem
  }

  found(message: string): Error {
    const problem = new Violation(message)
    this.violated(problem)
    return problem
  }
}
