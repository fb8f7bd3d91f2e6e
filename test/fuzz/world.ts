import type { Clock, Timer } from '../../src/base/clock.ts'
import { Slab } from '../../src/base/slab.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { loopTurn, SimClock } from '../simulation/clock.ts'
import { Machine, type Process } from '../simulation/machine.ts'
import { SimNetwork } from '../simulation/network.ts'
import { PoisonSlab } from '../simulation/slab.ts'
import { must, type Trial } from './trial.ts'

/** The port of the server under test, or of the hostile one. */
export const port = 4470

/** Simulated milliseconds for the first turn of the process's own loop. */
const turnMs = 10

/** The memory of all cases: one spoils what is given back, one has parts that outlive blocks. */
const slabs = [new PoisonSlab(), new Slab()]

/** Two machines on a simulated clock and network, one of which runs the code under test. */
export class World {
  readonly clock = new SimClock()
  readonly network: SimNetwork
  /** Runs the code under test. */
  readonly tested: Process
  /** Runs the hostile side. */
  readonly hostile: Process
  /** The clock for the code under test: every call from it is a step. */
  readonly watch: Clock
  readonly slab: Slab
  private readonly trial: Trial
  private readonly held: number
  private readonly heldInParts: number
  /** The most bytes that were held after a call of a handler. */
  private peak: number

  constructor(trial: Trial) {
    const { dice } = trial
    this.trial = trial
    this.network = new SimNetwork(this.clock, dice.fork())
    this.network.crumbs = dice.pick([0, 0, 0.02, 0.5])
    this.tested = this.machine('tested')
    this.hostile = this.machine('hostile')
    this.watch = new WatchedClock(this.tested.clock, trial)
    this.slab = dice.pick(slabs)
    this.held = this.slab.bytesHeld
    this.heldInParts = this.slab.bytesInParts
    this.peak = this.held
  }

  private machine(name: string): Process {
    return new Machine(name, this.clock, this.network, this.network.dice).start(name)
  }

  /** The same handler, with its calls timed. */
  watched(handler: ConnectionHandler): ConnectionHandler {
    const { trial } = this
    return {
      landing: () => handler.landing(),
      landed: (bytes) => {
        trial.bytes += bytes
        trial.step(() => handler.landed(bytes))
        this.peak = Math.max(this.peak, this.slab.bytesHeld)
      },
      sent: () => trial.step(() => handler.sent()),
      closed: (reason) => trial.step(() => handler.closed(reason)),
    }
  }

  /** Lets time pass until nothing happens for a while; timers of seconds are not waited for. */
  async quiet(): Promise<void> {
    const { clock } = this
    for (let steps = -1; steps !== clock.steps;) {
      steps = clock.steps
      await clock.run(clock.time + 30)
    }
  }

  /** Lets time pass until `done`; a finding if it never is. */
  async until(done: () => boolean, ms: number, what: string): Promise<void> {
    const { clock } = this
    must(await clock.run(clock.time + ms, done), `${what} within ${ms / 1000} s`)
  }

  /** Lets time pass until the promise is settled; a finding if it never is. */
  async settle<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    const watched = watch(promise)
    await this.until(() => watched.settled, ms, what)
    return promise
  }

  /** The same for what also waits for files, which are not simulated. */
  async settleOutside<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    const { clock } = this
    const watched = watch(promise)
    let step = turnMs
    for (const deadline = clock.time + ms; !watched.settled;) {
      must(clock.time < deadline, `${what} within ${ms / 1000} s`)
      await loopTurn()
      // No time passes while a file is waited for: how long that takes is not simulated.
      if (awaitsFiles()) continue
      await clock.run(clock.time + step, () => watched.settled)
      step = Math.min(1000, step * 1.2)
    }
    return promise
  }

  /** All memory was given back, and there was never more of it than `most` bytes. */
  checkMemory(most: number): void {
    const { slab, held, heldInParts } = this
    must(slab.bytesHeld === held, `${slab.bytesHeld - held} bytes are held for ever`)
    const parts = slab.bytesInParts - heldInParts
    must(parts === 0, `${parts} bytes of parts are held for ever`)
    const peak = this.peak - held
    must(peak <= most, `${peak} bytes were held, more than ${most}`)
  }
}

/** Whether a promise is settled, as it goes. */
function watch(promise: Promise<unknown>): { readonly settled: boolean } {
  const watched = { settled: false }
  const end = (): void => void (watched.settled = true)
  promise.then(end, end)
  return watched
}

function awaitsFiles(): boolean {
  return process.getActiveResourcesInfo().some((one) => one.startsWith('FSReq'))
}

/** A clock whose callbacks are steps of a trial. */
class WatchedClock implements Clock {
  private readonly clock: Clock
  private readonly trial: Trial

  constructor(clock: Clock, trial: Trial) {
    this.clock = clock
    this.trial = trial
  }

  now(): number {
    return this.clock.now()
  }

  wall(): number {
    return this.clock.wall()
  }

  timer(ms: number, callback: () => void): Timer {
    return this.clock.timer(ms, () => this.trial.step(callback))
  }

  defer(callback: () => void): void {
    this.clock.defer(() => this.trial.step(callback))
  }

  soon(callback: () => void): void {
    this.clock.soon(() => this.trial.step(callback))
  }
}

/** The hostile side of a connection: it says what it is told to, and keeps what it hears. */
export class Peer implements ConnectionHandler {
  readonly connection: Connection
  isClosed = false
  /** Called when more was heard. */
  onHeard: () => void = () => undefined
  onClosed: () => void = () => undefined
  private pieces: Buffer[] = []
  private readonly place = Buffer.allocUnsafe(64 * 1024)

  constructor(connection: Connection) {
    this.connection = connection
  }

  /** All that was heard and not taken; `keep` puts back what is left of it. */
  heard(): Buffer {
    const all = this.pieces.length === 1 ? this.pieces[0]! : Buffer.concat(this.pieces)
    this.pieces = [all]
    return all
  }

  /** Forgets the first bytes of what was heard. */
  consume(bytes: number): void {
    this.pieces = [this.heard().subarray(bytes)]
  }

  say(bytes: Buffer): void {
    if (bytes.length > 0) this.connection.send([bytes])
  }

  landing(): Buffer {
    return this.place
  }

  landed(bytes: number): void {
    this.pieces.push(Buffer.from(this.place.subarray(0, bytes)))
    this.onHeard()
  }

  sent(): void {
    // What was said never changes.
  }

  closed(): void {
    this.isClosed = true
    this.onClosed()
  }
}
