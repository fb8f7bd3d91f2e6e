import { KiB, MiB } from '../../src/base/size.ts'
import { Device, type Driver } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import type { Network } from '../../src/net/network.ts'
import type { ClientWorld } from '../../src/peer/link.ts'
import { submit, type Outcome } from '../support/io.ts'
import { mutatedPart, noiseOf, type Part } from './mutate.ts'
import { must, type Trial } from './trial.ts'
import { Peer, port, World } from './world.ts'

/** Where the hostile server is. */
export const address = { kind: 'tcp', host: 'hostile', port } as const

/** Milliseconds that a client waits for an answer, and holds requests while there is no server. */
export const patience = { requestTimeout: 2000, hold: 3000, connectTimeout: 1000 } as const

/** Milliseconds in which every request has an end, and a client has come back. */
const endMs = 600_000

/** A server that is honest, or says now and then what no decent one says. */
export abstract class HostileServer {
  readonly trial: Trial
  /** What an honest server has. */
  readonly content: Buffer
  /** How likely each message is not as it should be. */
  trouble: number
  /** Whether any message was not. */
  lied = false
  /** How many more messages are not: after few lies, what was left undone stays so. */
  private liesLeft: number
  private readonly peers = new Set<Peer>()

  constructor(trial: Trial, size: number) {
    const { dice } = trial
    this.trial = trial
    this.content = Buffer.from(noiseOf(dice, size))
    this.trouble = dice.pick([0, 0.01, 0.05, 0.3])
    this.liesLeft = dice.pick([Infinity, Infinity, 1, 3])
  }

  /** Answers the clients that come from now on. */
  async listen({ hostile }: World): Promise<void> {
    await hostile.network.listen(address, (connection) => {
      const peer = new Peer(connection)
      this.trial.connections++
      this.peers.add(peer)
      peer.onClosed = () => this.peers.delete(peer)
      this.meet(peer)
      return peer
    })
  }

  /** Says nothing but the truth from now on, to new clients. */
  reform(): void {
    this.trouble = 0
    for (const peer of [...this.peers]) peer.connection.destroy()
  }

  /** Says the message, or something else. */
  say(peer: Peer, part: Part): void {
    const { dice } = this.trial
    if (peer.isClosed) return
    if (this.liesLeft === 0 || !dice.chance(this.trouble)) {
      peer.say(part.bytes)
      return
    }
    this.lied = true
    this.liesLeft--
    const what = dice.below(16)
    if (what < 9) peer.say(mutatedPart(part, dice, 1))
    else if (what === 9) peer.say(Buffer.concat([part.bytes, part.bytes]))
    else if (what === 10) peer.say(Buffer.concat([noiseOf(dice, 1 + dice.below(40)), part.bytes]))
    else if (what === 11) peer.say(noiseOf(dice, dice.pick([10, 1000, 100_000])))
    else if (what === 12) peer.say(part.bytes.subarray(0, dice.below(part.bytes.length)))
    else if (what === 13) peer.connection.end()
    else if (what === 14) peer.connection.destroy()
    // Else nothing is said.
  }

  /** A client has come. */
  protected abstract meet(peer: Peer): void
}

/** A client of a hostile server, as a device. */
export class Client {
  readonly world: World
  readonly server: HostileServer
  readonly device: Device
  private readonly trial: Trial
  private opened: Promise<void> | null = null

  constructor(world: World, server: HostileServer, make: (world: ClientWorld) => Driver) {
    this.world = world
    this.server = server
    const { trial } = server
    this.trial = trial
    const { slab, watch: clock, tested } = world
    const network = watchedNetwork(world, tested.network)
    this.device = new Device(
      'client',
      make({ network, slab, clock, random: trial.dice.fork() }),
      clock,
    )
  }

  /** Opens the device: with a server or without. */
  open(): Promise<void> {
    this.opened ??= this.device.open()
    return this.opened
  }

  /** Sends requests of all kinds, while the server says what it likes; each has an end. */
  async ask(): Promise<void> {
    const { world, trial } = this
    await world.settle(this.open(), endMs, 'the device opens')
    for (let left = 1 + trial.dice.below(3); left > 0; left--) {
      const asked = Array.from({ length: 1 + trial.dice.below(24) }, () => this.one())
      await world.settle(Promise.all(asked), endMs, 'all requests have an end')
    }
  }

  /** A request; writes stay in the lower half, so that the upper one is known. */
  private async one(): Promise<void> {
    const { device, trial, server } = this
    const { dice } = trial
    const half = server.content.length / 2
    const operation = dice.pick([0, 0, 0, 1, 1, 2, 3, 4, 5] as const)
    const isFlush = operation === Operation.flush
    const length = isFlush ? 0 : 1 + dice.below(Math.min(half, dice.pick([64, 9 * KiB, 80 * KiB])))
    const from = operation === Operation.read ? half : 0
    const offset = isFlush ? 0 : from + dice.below(half - length + 1)
    const payload = operation === Operation.write ? [noiseOf(dice, length)] : []
    const outcome = await submit(device, operation, offset, length, 0, payload)
    if (operation === Operation.read) this.checkRead(outcome, offset, length)
    if (operation === Operation.status) checkRuns(outcome, length)
  }

  /** What is believed of a server that lies; overridden where it cannot lie unseen. */
  believes(): boolean {
    return this.server.lied
  }

  private checkRead({ error, data }: Outcome, offset: number, length: number): void {
    if (error !== null) {
      must(this.server.lied, `an honest server is not believed: ${error.message}`)
      return
    }
    must(data.length === length, `a read of ${length} bytes has ${data.length}`)
    const right = data.equals(this.server.content.subarray(offset, offset + length))
    must(right || this.believes(), `a read of ${length} bytes at ${offset} has other bytes`)
  }

  /** Whether it comes back to a server that is honest, whatever it was told before. */
  mayRecover(): boolean {
    return true
  }

  /** The server has come to its senses: the client comes back, and all is as it should be. */
  async recover(): Promise<void> {
    const { world, device, server } = this
    server.reform()
    // The last lie may have been under way.
    await world.quiet()
    if (!this.mayRecover()) return
    const { length } = server.content
    const isBack = (): boolean => device.state.word === 'online' && device.facts?.size === length
    await world.until(isBack, endMs, 'the client has come back')
    const payload = noiseOf(this.trial.dice, length / 2)
    for (const [operation, segments] of [
      [Operation.write, [payload]],
      [Operation.read, []],
    ] as const) {
      const asked = submit(device, operation, 0, payload.length, 0, segments)
      const { error, data } = await world.settle(asked, endMs, 'a request has an end')
      must(error === null, `an honest server is not believed: ${error?.message}`)
      must(operation === Operation.write || data.equals(payload), 'what was written is not there')
    }
    must(server.content.subarray(0, payload.length).equals(payload), 'a write came to nothing')
  }

  /** Ends; nothing may be left. */
  async close(): Promise<void> {
    const { world, device } = this
    await world.settle(device.close(), endMs, 'the device closes')
    await world.quiet()
    world.checkMemory(8 * MiB)
  }
}

function checkRuns({ error, lengths, flags }: Outcome, length: number): void {
  if (error !== null) return
  const all = lengths.reduce((sum, run) => sum + run, 0)
  must(all > 0 && all <= length, `a status of ${length} bytes tells of ${all}`)
  must(lengths.every((run) => run > 0) && flags.every((flag) => flag <= 3), 'runs make no sense')
}

/** A network whose handlers are watched. */
function watchedNetwork(world: World, network: Network): Network {
  return {
    connect: (to, timeout, attach, failed) =>
      network.connect(to, timeout, (connection) => world.watched(attach(connection)), failed),
    listen: (...all) => network.listen(...all),
  }
}
