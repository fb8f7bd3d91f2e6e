import { StorageError } from '../../src/base/errors.ts'
import { formatAddress, type Address } from '../../src/net/address.ts'
import type { Accept, Connection, ConnectionHandler, Listener } from '../../src/net/network.ts'
import type { Network } from '../../src/net/network.ts'
import type { SimClock } from './clock.ts'
import type { Dice } from './dice.ts'
import { Endpoint } from './endpoint.ts'
import type { Machine, Process } from './machine.ts'

/** The way from one machine to another; each direction has its own. */
export interface Link {
  /** Milliseconds. */
  latency: number
  jitter: number
  bytesPerMs: number
  /** While false nothing arrives: TCP sends it again later, resets are lost. */
  up: boolean
  /** When it went down; of a link that is up, the last time. */
  downSince: number
  /** What waits for the link to come back. */
  readonly waiting: (() => void)[]
}

const earliestEphemeralPort = 40_000
/** Milliseconds between two attempts of TCP to send the same. */
const retransmissionMsMax = 20_000

/** Machines, the links between them, listeners and connections. */
export class SimNetwork {
  readonly clock: SimClock
  readonly dice: Dice
  readonly machines = new Map<string, Machine>()
  /** What a new link is like. */
  latency = 0.05
  jitter = 0.05
  bytesPerMs = 1_000_000
  /** Whether a connection ends with its data delivered (FIN) or dropped (RST). */
  resetOnClose = 0.5
  /** How many deliveries hand over only a few bytes, to try parsers. */
  crumbs = 0.1
  /** Bytes that one direction still delivers before the connection breaks, once. */
  readonly budgets = new Map<string, number>()
  private readonly links = new Map<string, Link>()
  private readonly listeners = new Map<string, SimListener>()
  readonly endpoints = new Set<Endpoint>()
  private ports = earliestEphemeralPort

  constructor(clock: SimClock, dice: Dice) {
    this.clock = clock
    this.dice = dice
  }

  link(from: string, to: string): Link {
    const key = `${from}>${to}`
    let link = this.links.get(key)
    if (link === undefined) {
      const { latency, jitter, bytesPerMs } = this
      link = { latency, jitter, bytesPerMs, up: true, downSince: 0, waiting: [] }
      this.links.set(key, link)
    }
    return link
  }

  /** Milliseconds that `bytes` take over `link` now. */
  delay(link: Link, bytes: number): number {
    return link.latency + this.dice.skewed(0, link.jitter) + bytes / link.bytesPerMs
  }

  cut(from: string, to: string): void {
    const link = this.link(from, to)
    if (link.up) link.downSince = this.clock.time
    link.up = false
  }

  heal(from: string, to: string): void {
    const link = this.link(from, to)
    if (link.up) return
    link.up = true
    for (const retry of link.waiting.splice(0)) retry()
  }

  /** Everybody can reach everybody. */
  healAll(): void {
    for (const key of this.links.keys()) {
      const [from, to] = key.split('>')
      this.heal(from!, to!)
    }
  }

  /**
   * Milliseconds until a sender finds out that the link is back. Whoever kept trying waits longer
   * each time: what an old connection holds may arrive long after a new one was made.
   */
  retransmission(link: Link): number {
    if (this.dice.chance(0.5)) return 0
    const outage = Math.min(this.clock.time - link.downSince, retransmissionMsMax)
    return this.dice.between(0, outage)
  }

  /** How many of `bytes` may still be delivered before the connection breaks. */
  spend(from: string, to: string, bytes: number): number {
    const key = `${from}>${to}`
    const left = this.budgets.get(key)
    if (left === undefined) return bytes
    if (bytes < left) this.budgets.set(key, left - bytes)
    else this.budgets.delete(key)
    return Math.min(bytes, left)
  }

  /** Told of bytes that arrive at a machine, and from which. */
  watched: (to: Machine, from: Machine) => void = () => undefined

  /** Whether nothing is under way between machines. */
  get idle(): boolean {
    // What one side sent before it closed is under way to the other.
    for (const end of this.endpoints) if (end.busy || end.other.busy) return false
    return true
  }

  /** Connections between two machines, each once. */
  between(a: string, b: string): Endpoint[] {
    return [...this.endpoints].filter(
      (end) => end.machine.name === a && end.other.machine.name === b && end.open,
    )
  }

  listen(process: Process, port: number, accept: Accept): Listener {
    const key = `${process.machine.name}:${port}`
    if (this.listeners.has(key)) throw new StorageError('CONFIG', `${key} is in use`)
    const listener = new SimListener(this, key, process, accept, port)
    this.listeners.set(key, listener)
    return listener
  }

  unlisten(key: string): void {
    this.listeners.delete(key)
  }

  connect(
    process: Process,
    address: Address,
    timeout: number,
    attach: (connection: Connection) => ConnectionHandler,
    failed: (error: StorageError) => void,
  ): () => void {
    return new Attempt(this, process, address, timeout, attach, failed).start()
  }

  listenerAt(host: string, port: number): SimListener | undefined {
    return this.listeners.get(`${host}:${port}`)
  }

  ephemeralPort(): number {
    return this.ports++
  }

  processEnded(process: Process): void {
    for (const end of [...this.endpoints]) if (end.process === process) end.processEnded()
    for (const [key, listener] of this.listeners)
      if (listener.process === process) this.listeners.delete(key)
  }

  machineCrashed(machine: Machine): void {
    for (const end of [...this.endpoints]) if (end.machine === machine) end.vanish()
    for (const [key, listener] of this.listeners)
      if (listener.process.machine === machine) this.listeners.delete(key)
  }

  /** Packets that were sent again and again find a kernel, which knows nothing of them. */
  machineBooted(machine: Machine): void {
    for (const from of this.machines.keys()) {
      const link = this.link(from, machine.name)
      if (link.up) for (const retry of link.waiting.splice(0)) retry()
    }
  }
}

/** The network as one process sees it. */
export class ProcessNetwork implements Network {
  private readonly network: SimNetwork
  private readonly process: Process

  constructor(network: SimNetwork, process: Process) {
    this.network = network
    this.process = process
  }

  connect(
    address: Address,
    timeout: number,
    attach: (connection: Connection) => ConnectionHandler,
    failed: (error: StorageError) => void,
  ): () => void {
    return this.network.connect(this.process, address, timeout, attach, failed)
  }

  listen(address: Address, accept: Accept): Promise<Listener> {
    const port = address.kind === 'tcp' ? address.port : 0
    return Promise.resolve(this.network.listen(this.process, port, accept))
  }
}

class SimListener implements Listener {
  readonly address: Address
  readonly process: Process
  readonly accept: Accept
  private readonly network: SimNetwork
  private readonly key: string

  constructor(network: SimNetwork, key: string, process: Process, accept: Accept, port: number) {
    this.network = network
    this.key = key
    this.process = process
    this.accept = accept
    this.address = { kind: 'tcp', host: process.machine.name, port }
  }

  close(): Promise<void> {
    this.network.unlisten(this.key)
    return Promise.resolve()
  }
}

/** One attempt to connect: a packet there, a packet back, and a deadline. */
class Attempt {
  private readonly network: SimNetwork
  private readonly process: Process
  private readonly host: string
  private readonly port: number
  private readonly peer: string
  private readonly timeout: number
  private readonly attach: (connection: Connection) => ConnectionHandler
  private readonly failed: (error: StorageError) => void
  private settled = false

  constructor(
    network: SimNetwork,
    process: Process,
    address: Address,
    timeout: number,
    attach: (connection: Connection) => ConnectionHandler,
    failed: (error: StorageError) => void,
  ) {
    this.network = network
    this.process = process
    this.host = address.kind === 'tcp' ? address.host : process.machine.name
    this.port = address.kind === 'tcp' ? address.port : 0
    this.peer = formatAddress(address)
    this.timeout = timeout
    this.attach = attach
    this.failed = failed
  }

  start(): () => void {
    const { network, process } = this
    network.clock.after(this.timeout, process, () => {
      this.fail('TIMEOUT', `no connection to ${this.peer} in ${this.timeout} ms`)
    })
    const there = network.link(process.machine.name, this.host)
    network.clock.after(network.delay(there, 0), null, () => this.arrive())
    return () => (this.settled = true)
  }

  /** At the other machine. */
  private arrive(): void {
    const { network, process, host } = this
    if (this.settled || !process.alive) return
    const there = network.link(process.machine.name, host)
    const machine = network.machines.get(host)
    if (!there.up || machine?.up !== true) {
      there.waiting.push(() => network.clock.after(there.latency, null, () => this.arrive()))
      return
    }
    const listener = network.listenerAt(host, this.port)
    const back = network.delay(network.link(host, process.machine.name), 0)
    if (listener === undefined) {
      network.clock.after(back, process, () => {
        this.fail('IO', `connecting to ${this.peer}: connect ECONNREFUSED`)
      })
      return
    }
    this.handshake(listener, machine, back)
  }

  private handshake(listener: SimListener, machine: Machine, back: number): void {
    const { network, process } = this
    const from = `${process.machine.name}:${network.ephemeralPort()}`
    const client = new Endpoint(network, process.machine, process, this.peer)
    const server = new Endpoint(network, machine, listener.process, from)
    client.join(server)
    // A kernel completes connections that its program accepts only later, or never.
    network.clock.after(network.dice.skewed(0.001, 1), listener.process, () => {
      if (server.open) server.accepted(listener.accept(server))
    })
    network.clock.after(back, process, () => {
      if (this.settled) client.destroy()
      else {
        this.settled = true
        client.start(this.attach(client))
      }
    })
  }

  private fail(code: 'TIMEOUT' | 'IO', message: string): void {
    if (this.settled) return
    this.settled = true
    this.failed(new StorageError(code, message))
  }
}
