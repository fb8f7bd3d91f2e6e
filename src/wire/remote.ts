import type { Timer } from '../base/clock.ts'
import { StorageError, type Code } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'
import { KiB } from '../base/size.ts'
import type { Claimed, Device, Driver, DriverHost, Facts, Fencing } from '../device/device.ts'
import { isChange, type Request } from '../device/request.ts'
import { formatAddress } from '../net/address.ts'
import { bareTls, formatUri } from '../net/uri.ts'
import { decodeClaimed } from '../export/claims.ts'
import { mayHold, payloadOf } from '../peer/held.ts'
import type { ClientConnection } from './client-connection.ts'
import { Command } from './codec.ts'
import { mutates, same } from './continuity.ts'
import { Controls } from './controls.ts'
import { Dialer, type ClientContext, type DialerUser } from './dialer.ts'
import { Feature, type Welcome, type WireFacts } from './hello.ts'
import type { RemoteOptions } from './remote-options.ts'
import { SessionMemory } from './session-memory.ts'
import { SlotState, Slots } from './slots.ts'

/** Requests wanted in flight per connection. */
const depthWanted = 128
/** What makes a connection busy enough for the next one to be used. */
const busyRequests = 32
const busyBytes = 512 * KiB
/** How often a payload that arrived damaged is sent again. */
const retriesMax = 2
/** Codes that refuse a claim for good; one that failed otherwise may have been granted. */
const refusals: ReadonlySet<Code> = new Set(['FENCED', 'INVALID', 'READ_ONLY'])

/** An export of another target, over DST/1. */
export class RemoteDriver implements Driver, DialerUser {
  readonly type = 'remote'
  readonly children: readonly Device[] = []
  readonly slots = new Slots<ClientConnection>()
  claimFence = 0
  private readonly options: RemoteOptions
  private readonly context: ClientContext
  /** For people: the export's name and address. */
  private readonly target: string
  private readonly dialer: Dialer
  private readonly controls: Controls
  private host!: DriverHost
  /** The device's path; '' before it is opened. */
  private path = ''
  private known: WireFacts | null = null
  private offered: WireFacts | null = null
  private readonly memory = new SessionMemory()
  private sizeDiffers = false
  /** Slots whose requests are to be sent again, in order. */
  private readonly resend = new Ring<number>()
  /** Requests without a slot, in order. */
  private readonly waiting = new Ring<Request>()
  private bytesQueued = 0
  private up = false
  /** True while requests are taken though there is no session. */
  private holding = false
  /** True while no socket refers to the buffers of a request. */
  private released = true
  private fenced = false
  /** The fence number above ours that another has claimed with, as the target says; 0: none. */
  private outbidBy = 0
  private holdTimer: Timer | null = null
  private ticking: Timer | null = null
  private firstAttempt: ((problem: StorageError | null) => void) | null = null
  private lastProblem = ''

  constructor(options: RemoteOptions, context: ClientContext) {
    this.options = options
    this.context = context
    const { address, name, connections, connectTimeout, checksums, tls } = options
    this.target = `${name} at ${formatAddress(address)}`
    const features = Feature.fencing | Feature.memory | (checksums ? Feature.checksums : 0)
    this.dialer = new Dialer(
      { address, tls, name, connections, connectTimeout, features, depth: depthWanted },
      this,
      context,
    )
    this.controls = new Controls(this.dialer, context.clock)
  }

  async open(host: DriverHost): Promise<void> {
    this.host = host
    this.path = host.path
    host.offline('offline', `connecting to ${this.target}`)
    const attempt = new Promise<StorageError | null>((resolve) => (this.firstAttempt = resolve))
    this.dialer.link.dial()
    const problem = await attempt
    // A size that differs is a mistake in the configuration; everything else may come right.
    if (problem !== null && this.sizeDiffers && this.options.awaitSize !== true) throw problem
  }

  async close(): Promise<void> {
    this.up = false
    this.holding = false
    this.holdTimer?.cancel()
    this.ticking?.cancel()
    this.controls.failAll(this.error('UNAVAILABLE', 'the device is closed'))
    this.firstAttempt?.(null)
    await this.dialer.stop()
  }

  get restarts(): number {
    return this.memory.restarts
  }

  describe(): Record<string, unknown> {
    const { address, name, tls } = this.options
    return {
      uri: formatUri({ protocol: 'dst', address, name, tls: tls === undefined ? null : bareTls }),
      connections: this.dialer.connections.length,
      sessions: this.dialer.sessions,
      inFlight: this.slots.used,
      waiting: this.waiting.length,
      lastProblem: this.lastProblem,
    }
  }

  submit(request: Request): void {
    if (!this.up) {
      const refusal = this.refusal(request)
      if (refusal !== null) {
        request.fail(refusal)
        return
      }
    }
    this.bytesQueued += payloadOf(request)
    if (this.up && this.resend.length === 0 && this.waiting.length === 0) {
      const connection = this.pick()
      const slot = connection === null ? -1 : this.slots.take(request)
      if (slot >= 0) {
        this.send(connection!, slot)
        return
      }
    }
    this.waiting.push(request)
  }

  stamp(): Promise<string> {
    return this.controls.ask(Command.stamp, 0)
  }

  async claim(fence: number): Promise<void> {
    const before = this.claimFence
    // Every session to come claims this by its hello.
    this.claimFence = fence === 0 ? 0 : Math.max(before, fence)
    const claimed = this.claimFence
    if (this.fenced) {
      this.fenced = false
      this.host.offline('offline', `connecting to ${this.target}`)
      this.dialer.link.dial()
    } else if (this.outbidBy > 0) this.host.offline('offline', `claiming ${this.target}`)
    try {
      await this.controls.ask(Command.claim, fence)
      if (fence >= this.outbidBy) this.outdone()
    } catch (error) {
      const { code, message } = error as StorageError
      // The claim was not granted: the next hello is not to be turned away because of it.
      if (refusals.has(code) && this.claimFence === claimed) this.claimFence = before
      if (this.up && this.outbidBy > 0) this.fail(message)
      throw error
    }
  }

  /** Our claim is no longer below another. */
  private outdone(): void {
    if (!this.up || this.outbidBy === 0) return
    this.outbidBy = 0
    this.announce()
  }

  fencing(): Fencing {
    const [connection] = this.dialer.connections
    return connection?.fencing === false ? 'refused' : 'told'
  }

  async claimed(): Promise<Claimed> {
    let text: string
    try {
      text = await this.controls.ask(Command.claimed, 0)
    } catch (error) {
      // A target that cannot tell refuses claims that are too low.
      if ((error as StorageError).code === 'UNSUPPORTED') return { held: 0, givenUp: 0 }
      throw error
    }
    const claimed = decodeClaimed(text)
    if (claimed === null) throw this.error('PROTOCOL', `${this.target} sent a claim that cannot be`)
    return claimed
  }

  // What the connections report.

  answered(_: unknown, slot: number, error: StorageError | null): void {
    const request = this.slots.giveBack(slot)
    this.bytesQueued -= payloadOf(request)
    if (error === null) request.complete()
    else request.fail(this.error(error.code, error.message))
    if (this.waiting.length > 0 || this.resend.length > 0) this.pump()
  }

  damaged(connection: ClientConnection, slot: number): void {
    const { slots } = this
    if (slots.retries[slot]! >= retriesMax) {
      const error = new StorageError('IO', 'the payload arrived damaged again and again')
      this.answered(connection, slot, error)
      return
    }
    slots.retries[slot]!++
    slots.sequences[slot]!++
    slots.states[slot] = SlotState.ready
    this.resend.push(slot)
    this.pump()
  }

  controlAnswered(sequence: number, error: StorageError | null, text: string): void {
    this.controls.answered(sequence, error, text)
  }

  outbid(fence: number): void {
    // A claim of ours may have been under way that is higher still.
    const { claimFence, waiting } = this
    if (!this.up || claimFence === 0 || fence <= claimFence) return
    this.outbidBy = fence
    const reason = `claimed with fence number ${fence}, not ${claimFence}`
    this.fail(reason)
    // The target answers the requests that it has.
    for (let left = waiting.length; left > 0 && waiting.length > 0; left--)
      this.drop(waiting.shift()!, this.error('FENCED', reason))
  }

  factsChanged(offered: WireFacts): void {
    if (!this.up) return
    const { facts } = this.known!
    if (!same(facts, offered.facts) || offered.facts.size < facts.size) {
      this.dialer.giveUp(this.error('STALE', `${this.target} is not what it was`))
      return
    }
    this.known = { facts: { ...offered.facts, payloadMax: facts.payloadMax }, word: offered.word }
    if (this.outbidBy === 0) this.announce()
  }

  // What the dialer reports.

  admit(welcome: Welcome): StorageError | null {
    const offered = welcome.facts!
    const { facts } = offered
    const before = this.known?.facts ?? null
    const { size, follow } = this.options
    this.sizeDiffers = size !== null && facts.size !== size
    if (this.sizeDiffers)
      return this.error('CONFIG', `${this.target} has ${facts.size} bytes, not ${size!}`)
    if (before !== null && !follow && facts.identity !== before.identity)
      return this.error('STALE', `${this.target} is another device than before`)
    if (before !== null && !follow && facts.size < before.size)
      return this.error('STALE', `${this.target} has shrunk to ${facts.size} bytes`)
    // A further connection of a session leads to the very same thing.
    if (this.up && !(same(before!, facts) && this.memory.isOfSession(welcome)))
      return this.error('STALE', `${this.target} changed while connecting to it`)
    this.offered = offered
    if (!this.up) this.memory.look(welcome)
    return null
  }

  began(): void {
    const before = this.known?.facts ?? null
    this.known = this.offered!
    const { facts } = this.known
    this.holdTimer?.cancel()
    this.holding = true
    this.gather(before, facts)
    this.up = true
    this.holding = false
    this.released = false
    this.lastProblem = ''
    this.outbidBy = 0
    const { path: device, target } = this
    this.context.log.info({ device, target }, `${device} is connected to ${target}`)
    this.announce()
    this.firstAttempt?.(null)
    this.firstAttempt = null
    this.tick()
    this.pump()
  }

  joined(): void {
    this.pump()
  }

  lost(reason: StorageError): void {
    this.up = false
    this.lastProblem = reason.message
    this.ticking?.cancel()
    while (this.resend.length > 0) this.resend.shift()
    this.controls.failAll(this.error('UNAVAILABLE', reason.message))
    const { hold } = this.options
    const { path: device, target } = this
    this.context.log.warn({ device, target, err: reason }, `${device} has lost ${target}`)
    this.holding = hold > 0 && this.outbidBy === 0
    if (!this.holding) return
    this.host.online(
      this.known!.facts,
      'degraded',
      `reconnecting, requests are held: ${reason.message}`,
    )
    this.holdTimer = this.context.clock.timer(hold, this.holdExpired)
  }

  down(reason: StorageError): void {
    this.released = true
    this.lastProblem = reason.message
    const outbid = this.outbidBy > 0
    if (reason.code === 'FENCED' && this.claimFence > 0) {
      this.fenced = true
      this.holding = false
      this.holdTimer?.cancel()
      this.dialer.link.rest()
      this.fail(reason.message)
    } else if (!this.holding && !outbid) this.host.offline('offline', reason.message)
    if (!this.holding)
      this.failAll(this.error(this.fenced || outbid ? 'FENCED' : 'UNAVAILABLE', reason.message))
    this.firstAttempt?.(reason)
    this.firstAttempt = null
  }

  /** The device is failed until a higher claim is made. */
  private fail(reason: string): void {
    this.host.offline('failed', `a newer head has taken over: ${reason}`, 'FENCED')
  }

  private readonly holdExpired = (): void => {
    this.holding = false
    const reason = `away for ${this.options.hold / 1000} s: ${this.lastProblem}`
    this.host.offline('offline', reason)
    if (this.released) this.failAll(this.error('UNAVAILABLE', reason))
  }

  /**
   * Decides what becomes of the requests that the last session left: with the same device in the
   * same boot they are sent again, in order. Otherwise changes and flushes fail.
   */
  private gather(before: Facts | null, facts: Facts): void {
    const failed: Request[] = []
    const other = before !== null && before.identity !== facts.identity
    const lost = other || (before !== null && before.bootId !== facts.bootId)
    const { forgotten } = this.memory
    for (const slot of this.slots.inOrder()) {
      const request = this.slots.requests[slot]!
      request.extents.clear()
      const unsure = forgotten && isChange(request.operation)
      if (unsure || (lost && (other || mutates(request)))) failed.push(this.slots.giveBack(slot))
      else {
        this.slots.states[slot] = SlotState.ready
        this.resend.push(slot)
      }
    }
    for (let left = lost ? this.waiting.length : 0; left > 0; left--) {
      const request = this.waiting.shift()!
      if (other || mutates(request)) failed.push(request)
      else this.waiting.push(request)
    }
    const why = lost ? 'restarted' : 'has forgotten the session, and whether this was carried out'
    for (const request of failed) this.drop(request, this.error('STALE', `${this.target} ${why}`))
  }

  private failAll(error: StorageError): void {
    const failed = this.slots.inOrder().map((slot) => this.slots.giveBack(slot))
    while (this.waiting.length > 0) failed.push(this.waiting.shift()!)
    for (const request of failed) this.drop(request, error)
  }

  private drop(request: Request, error: StorageError): void {
    this.bytesQueued -= payloadOf(request)
    request.fail(error)
  }

  private pump(): void {
    const { resend, waiting, slots } = this
    while (this.up && resend.length > 0) {
      const connection = this.pick()
      if (connection === null) return
      this.send(connection, resend.shift()!)
    }
    while (this.up && waiting.length > 0) {
      const connection = this.pick()
      const slot = connection === null ? -1 : slots.take(waiting.peek()!)
      if (slot < 0) return
      waiting.shift()
      this.send(connection!, slot)
    }
  }

  private send(connection: ClientConnection, slot: number): void {
    const { slots } = this
    if (this.options.requestTimeout > 0) slots.sentAt[slot] = this.context.clock.now()
    connection.send(slot)
  }

  /** The first connection that has room and is not busy, or the least busy one with room. */
  private pick(): ClientConnection | null {
    let best: ClientConnection | null = null
    for (const connection of this.dialer.connections) {
      if (connection.inFlight >= connection.depth || connection.over) continue
      if (connection.inFlight < busyRequests && connection.bytesInFlight < busyBytes)
        return connection
      if (best === null || connection.bytesInFlight < best.bytesInFlight) best = connection
    }
    return best
  }

  private refusal(request: Request): StorageError | null {
    if (!this.holding) return this.error('UNAVAILABLE', `${this.target} is away`)
    const requests = this.slots.used + this.waiting.length
    if (mayHold(requests, this.bytesQueued + payloadOf(request))) return null
    return this.error('BUSY', `${this.target} is away and too much waits for it`)
  }

  private announce(): void {
    const { facts, word } = this.known!
    if (word === 'offline') this.host.offline('offline', 'the target cannot reach the device')
    else this.host.online(facts, word, word === 'degraded' ? 'degraded at the target' : '')
  }

  private readonly tick = (): void => {
    const { clock } = this.context
    const { pingInterval, pingTimeout, requestTimeout } = this.options
    const now = clock.now()
    for (const connection of [...this.dialer.connections])
      connection.tick(now, pingInterval, pingTimeout)
    if (requestTimeout > 0 && this.overdue(now - requestTimeout))
      this.dialer.giveUp(this.error('TIMEOUT', `no answer within ${requestTimeout} ms`))
    if (this.up) this.ticking = clock.timer(pingInterval / 2, this.tick)
  }

  private overdue(before: number): boolean {
    const { states, sentAt } = this.slots
    for (let slot = 0; slot < states.length; slot++)
      if (states[slot] === SlotState.sent && sentAt[slot]! < before) return true
    return this.controls.overdue(before)
  }

  private error(code: Code, message: string): StorageError {
    return new StorageError(code, message, this.path)
  }
}
