import { promiseHooks } from 'node:v8'
import type { Clock, Timer } from '../../src/base/clock.ts'

/** Whose code an event runs: a dead owner's events are dropped, a frozen one's wait. */
export interface Owner {
  readonly alive: boolean
  readonly frozen: boolean
  /** Events that came due while frozen, in order. */
  readonly held: SimEvent[]
}

export class SimEvent implements Timer {
  readonly time: number
  readonly order: number
  readonly owner: Owner | null
  run: (() => void) | null

  constructor(time: number, order: number, owner: Owner | null, run: () => void) {
    this.time = time
    this.order = order
    this.owner = owner
    this.run = run
  }

  cancel(): void {
    this.run = null
  }
}

/** An event comes so much later; it is the `n`th of those since the one before it. */
export interface PutOff {
  readonly n: number
  /** Milliseconds. */
  readonly ms: number
}

/** Events of one moment: more are a program that goes round in circles. */
const stepsPerMomentMax = 100_000
/**
 * Events of one world: far more than any needs. Four legs, clients that use up what they may do
 * before and after the last power loss, large requests and a network that delivers a few bytes at a
 * time come to more than a million.
 */
const stepsMax = 4_000_000

/**
 * Simulated time: a queue of events in order of their time, those of one time in order of their
 * creation. Between two events all promises settle, as between two callbacks of Node's loop.
 */
export class SimClock {
  /** Milliseconds since the world began. */
  time = 0
  /** Events carried out so far. */
  steps = 0
  private orders = 0
  /** Events since time went on. */
  private busy = 0
  private readonly heap: SimEvent[] = []
  private delays: PutOff[] = []
  private untilPutOff = Infinity
  /** When the last event that was put off comes. */
  private putOffTo = 0

  /**
   * Runs `callback` in `delay` milliseconds, unless `owner` is dead by then; or later, where this
   * clock is told to put events off. For what comes from outside a process, such as packets.
   */
  after(delay: number, owner: Owner | null, callback: () => void): SimEvent {
    if (delay > 0 && --this.untilPutOff === 0) {
      delay += this.putOff()
      this.putOffTo = Math.max(this.putOffTo, this.time + delay)
    }
    return this.at(delay, owner, callback)
  }

  /** Puts off events: the `n`th from now by `ms`, and so on. */
  delay(list: readonly PutOff[]): void {
    this.delays = [...list]
    this.untilPutOff = this.delays[0]?.n ?? Infinity
  }

  /** Puts no more events off, and carries out events until the last of those has come. */
  async endDelays(done: () => boolean): Promise<void> {
    this.delay([])
    await this.run(Math.max(this.time, this.putOffTo), done)
  }

  private putOff(): number {
    const ms = this.delays.shift()!.ms
    this.untilPutOff = this.delays[0]?.n ?? Infinity
    return ms
  }

  /** `after`, of what comes when it should. */
  at(delay: number, owner: Owner | null, callback: () => void): SimEvent {
    const event = new SimEvent(this.time + Math.max(0, delay), this.orders++, owner, callback)
    this.insert(event)
    return event
  }

  /** Carries out events until `done`, or until the time is `deadline`; tells which. */
  async run(deadline: number, done: () => boolean = () => false): Promise<boolean> {
    await settled()
    for (;;) {
      if (done()) return true
      const next = this.heap[0]
      if (next === undefined || next.time > deadline) {
        this.time = Math.max(this.time, deadline)
        return done()
      }
      this.remove()
      if (this.carryOut(next)) await settled()
    }
  }

  /** What came due while `owner` was frozen happens now. */
  thaw(owner: Owner): void {
    for (const event of owner.held.splice(0))
      this.insert(new SimEvent(this.time, this.orders++, owner, () => event.run?.()))
  }

  private carryOut(event: SimEvent): boolean {
    if (event.time > this.time) this.busy = 0
    else if (++this.busy > stepsPerMomentMax) throw new Error('time stands still: a busy loop')
    if (this.steps > stepsMax) throw new Error(`not at an end after ${stepsMax} events`)
    this.time = event.time
    const { owner, run } = event
    if (run === null || owner?.alive === false) return false
    if (owner?.frozen === true) {
      owner.held.push(event)
      return false
    }
    event.run = null
    this.steps++
    promised = false
    run()
    return promised
  }

  private insert(event: SimEvent): void {
    const { heap } = this
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!sooner(event, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = event
  }

  private remove(): void {
    const { heap } = this
    const event = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && sooner(heap[child + 1]!, heap[child]!)) child++
      if (!sooner(heap[child]!, event)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = event
  }
}

function sooner(a: SimEvent, b: SimEvent): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order)
}

/** Whether the last event had to do with promises: most have not, and need not wait for any. */
let promised = false
const stir = (): void => {
  promised = true
}
promiseHooks.createHook({ init: stir, settled: stir })

/** So often the process's own loop has a turn: for messages, and rejections nobody handled. */
const settlingsPerTurn = 256
let settlings = 0

/**
 * All promises settle: Node runs what `nextTick` was given when no promise can go on. Twice, as a
 * callback of the loop runs it before the promises that it left. A turn of the loop for each event
 * would do as well, but costs what everything else in this process has to do in a turn.
 */
function settled(): Promise<void> {
  if (++settlings % settlingsPerTurn === 0) return loopTurn()
  return new Promise((resolve) =>
    process.nextTick(() => queueMicrotask(() => process.nextTick(resolve))),
  )
}

/** The process's own loop has had a turn. */
export function loopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** The clock as one process sees it: origins differ, and wall clocks are wrong. */
export class ProcessClock implements Clock {
  private readonly clock: SimClock
  private readonly owner: Owner
  private readonly origin: number
  private readonly wallOrigin: number

  constructor(clock: SimClock, owner: Owner, origin: number, wallOrigin: number) {
    this.clock = clock
    this.owner = owner
    this.origin = origin
    this.wallOrigin = wallOrigin
  }

  now(): number {
    return this.origin + this.clock.time
  }

  wall(): number {
    return Math.floor(this.wallOrigin + this.clock.time)
  }

  timer(ms: number, callback: () => void): Timer {
    return this.clock.at(ms, this.owner, callback)
  }

  defer(callback: () => void): void {
    this.clock.at(0, this.owner, callback)
  }

  soon(callback: () => void): void {
    this.clock.at(0, this.owner, callback)
  }
}
