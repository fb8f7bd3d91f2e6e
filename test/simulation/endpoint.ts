import { StorageError } from '../../src/base/errors.ts'
import { remoteAt, type Identity } from '../../src/net/identity.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import type { SimEvent } from './clock.ts'
import type { Machine, Process } from './machine.ts'
import type { Link, SimNetwork } from './network.ts'

type Packet = Buffer | 'fin' | 'rst'

/** Bytes the kernels of both sides and the wire between them hold for one direction. */
const windowBytes = 128 * 1024

/**
 * One side of a connection: its program's handler, its kernel's buffers, and its way to the other.
 * The program's buffers are read as late as they may be, when the kernel has room for them; what
 * the kernel took is delivered even if the program is long gone.
 */
export class Endpoint implements Connection {
  readonly peer: string
  readonly identity: Identity
  readonly batchBytes = windowBytes / 2
  readonly machine: Machine
  readonly process: Process
  other!: Endpoint
  /** Known to its kernel: what arrives for any other is answered with a reset. */
  open = true
  private readonly network: SimNetwork
  private handler: ConnectionHandler | null = null
  private problem: StorageError | null = null
  /** Given by the program, not yet taken by the kernel; `last` ends one call of `send`. */
  private readonly outgoing: { bytes: Buffer; last: boolean }[] = []
  private outgoingAt = 0
  private outstanding = 0
  /** What the kernel sent and the other kernel has not got, oldest first. */
  private readonly flight: Packet[] = []
  /** Of these, how many came to a link that was down. */
  private missed = 0
  private lastArrival = 0
  private pumping: SimEvent | null = null
  private ending = false
  private readonly incoming: Packet[] = []
  private incomingAt = 0
  private delivering: SimEvent | null = null
  private paused = false
  private place: Buffer | null = null
  /** Whether the landing is asked for before there are bytes, as sockets do that land by onread. */
  private readonly early: boolean
  private readonly madeAt: number

  constructor(network: SimNetwork, machine: Machine, process: Process, peer: string) {
    this.network = network
    this.machine = machine
    this.process = process
    this.peer = peer
    this.identity = remoteAt(peer.split(':')[0]!)
    this.early = network.dice.chance(0.5)
    this.madeAt = network.clock.time
    network.endpoints.add(this)
  }

  /** Whether it has something that is not at the other program. */
  get busy(): boolean {
    return this.outgoing.length + this.flight.length + this.incoming.length > 0
  }

  /** Whether what is sent now arrives at once, behind nothing else. */
  get flows(): boolean {
    const { network, machine, other } = this
    const { up } = network.link(machine.name, other.machine.name)
    return up && !this.busy && this.lastArrival <= network.clock.time
  }

  join(other: Endpoint): void {
    this.other = other
    other.other = this
  }

  accepted(handler: ConnectionHandler | null): void {
    if (handler === null) this.leave(null, true)
    else this.start(handler)
  }

  start(handler: ConnectionHandler): void {
    if (!this.open) {
      this.network.clock.after(0, this.process, () => handler.closed(this.problem))
      return
    }
    this.handler = handler
    if (this.early) this.place = handler.landing()
    this.wake()
  }

  send(buffers: readonly Buffer[]): void {
    if (!this.open || this.ending) return
    for (const [at, bytes] of buffers.entries())
      this.outgoing.push({ bytes, last: at === buffers.length - 1 })
    this.pump()
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    this.wake()
  }

  end(): void {
    if (!this.open || this.ending) return
    this.ending = true
    this.pump()
  }

  destroy(): void {
    if (this.open) this.leave(null, true)
  }

  /** The network's doing: this side learns that the connection broke; the other perhaps not. */
  reset(why = 'ECONNRESET'): void {
    if (this.open) this.leave(new StorageError('IO', `connection to ${this.peer}: ${why}`), false)
  }

  /** A packet is lost, and what follows waits for it: nothing arrives for so many milliseconds. */
  stall(ms: number): void {
    this.lastArrival = Math.max(this.lastArrival, this.network.clock.time + ms)
  }

  /** The program was killed; its kernel says so to the peer. */
  processEnded(): void {
    if (!this.open) return
    this.handler = null
    this.leave(null, true)
  }

  /** The kernel is gone: nobody says anything to anybody. */
  vanish(): void {
    this.open = false
    this.handler = null
    this.outgoing.length = 0
    this.incoming.length = 0
    this.network.endpoints.delete(this)
  }

  private leave(reason: StorageError | null, tell: boolean): void {
    const { handler, network } = this
    this.open = false
    this.problem = reason
    this.outgoing.length = 0
    this.incoming.length = 0
    network.endpoints.delete(this)
    this.handler = null
    if (tell) this.transmit(network.dice.chance(network.resetOnClose) ? 'rst' : 'fin')
    if (handler !== null) network.clock.after(0, this.process, () => handler.closed(reason))
  }

  private pump(): void {
    if (!this.open || (this.outgoing.length === 0 && !this.ending)) return
    this.pumping ??= this.network.clock.after(
      this.network.dice.skewed(0, 0.02),
      this.process,
      () => {
        this.pumping = null
        this.copyOut()
      },
    )
  }

  /** Moves what there is room for from the program to the kernel. */
  private copyOut(): void {
    const { outgoing } = this
    while (this.open && outgoing.length > 0 && this.outstanding < windowBytes) {
      const { bytes, last } = outgoing[0]!
      const room = Math.min(windowBytes - this.outstanding, bytes.length - this.outgoingAt)
      const from = this.outgoingAt
      this.transmit(Buffer.from(bytes.subarray(from, from + room)))
      this.outgoingAt += room
      if (this.outgoingAt < bytes.length) return
      this.outgoingAt = 0
      outgoing.shift()
      if (last) this.handler?.sent()
    }
    if (this.open && this.ending && outgoing.length === 0) {
      this.transmit('fin')
      this.ending = false
      this.open = false
      this.network.endpoints.delete(this)
      const { handler } = this
      this.handler = null
      this.network.clock.after(0, this.process, () => handler?.closed(null))
    }
  }

  private transmit(packet: Packet): void {
    const { network, other } = this
    const link = network.link(this.machine.name, other.machine.name)
    // Data is sent again until it arrives, a reset is not.
    if (!link.up && packet === 'rst') return
    const bytes = typeof packet === 'string' ? 0 : packet.length
    this.outstanding += bytes
    this.flight.push(packet)
    const arrival = Math.max(this.lastArrival, network.clock.time + network.delay(link, bytes))
    this.lastArrival = arrival
    network.clock.after(arrival - network.clock.time, null, () => this.arrive(link))
  }

  /** The oldest packet under way is at the other machine's kernel, if that can be reached. */
  private arrive(link: Link): void {
    const { network, other } = this
    // What was on the wire when the power went still arrives; nobody sends the rest again.
    const { crashedAt } = this.machine
    if (crashedAt >= this.madeAt && network.clock.time > crashedAt + 2 * link.latency) return
    if (link.up && other.machine.up) {
      other.receive(this.flight.shift()!)
      return
    }
    if (this.missed++ > 0) return
    link.waiting.push(() => {
      const again = this.missed
      this.missed = 0
      const delay = network.delay(link, 0) + network.retransmission(link)
      for (let at = 0; at < again; at++) network.clock.after(delay, null, () => this.arrive(link))
    })
  }

  private receive(packet: Packet): void {
    if (!this.open) {
      // A connection nobody here knows: the peer is told, as a kernel does.
      if (packet !== 'rst') this.network.clock.after(0, null, () => this.answerReset())
      return
    }
    if (packet === 'rst') {
      this.incoming.length = 0
      this.reset()
      return
    }
    this.incoming.push(packet)
    this.wake()
    this.network.watched(this.machine, this.other.machine)
  }

  private answerReset(): void {
    if (!this.machine.up) return
    const { network, other } = this
    const link = network.link(this.machine.name, other.machine.name)
    if (link.up) network.clock.after(network.delay(link, 0), null, () => other.reset())
  }

  private wake(): void {
    if (this.delivering !== null || this.handler === null || this.paused) return
    if (this.incoming.length === 0) return
    this.delivering = this.network.clock.after(
      this.network.dice.skewed(0, 0.01),
      this.process,
      () => {
        this.delivering = null
        this.deliver()
      },
    )
  }

  private deliver(): void {
    const { handler, network, incoming } = this
    const packet = incoming[0]
    if (handler === null || this.paused || packet === undefined) return
    if (packet === 'fin') {
      this.leave(null, true)
      return
    }
    if (packet === 'rst') return
    const place = this.place ?? handler.landing()
    const from = this.incomingAt
    const most = Math.min(
      network.dice.chance(network.crumbs) ? network.dice.integer(1, 100) : packet.length,
      packet.length - from,
      place.length,
    )
    const allowed = network.spend(this.other.machine.name, this.machine.name, most)
    const bytes = allowed === 0 ? 0 : packet.copy(place, 0, from, from + allowed)
    if (allowed < most) {
      this.other.reset()
      network.clock.after(0, null, () => this.reset())
      if (bytes === 0) return
    }
    this.place = null
    this.incomingAt += bytes
    if (this.incomingAt === packet.length) {
      this.incomingAt = 0
      incoming.shift()
    }
    this.other.outstanding -= bytes
    this.other.pump()
    handler.landed(bytes)
    if (this.early && this.open && this.handler !== null) this.place = handler.landing()
    this.wake()
  }
}
