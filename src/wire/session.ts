import type { Clock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { roundDown } from '../base/size.ts'
import type { Claimed, Device, Facts } from '../device/device.ts'
import { claimedOf, restartsOf } from '../device/facts.ts'
import { isChange, type Operation } from '../device/request.ts'
import type { Export } from '../export/export.ts'
import { mayNotClaim, tooHigh, tooLow, type Claims } from '../export/claims.ts'
import { AwaySessions } from './away.ts'
import { same } from './continuity.ts'
import type { Hello, WireFacts } from './hello.ts'
import { notItsOwner, type SessionConnection } from './session-connection.ts'

/** Slots of one session: requests that all its connections together may have in flight. */
export const slotsMax = 1024
/** Connections of one session: more give one event loop nothing. */
export const connectionsPerSession = 64
/** Milliseconds that a session without connections is remembered: longer than clients hold. */
const sessionTimeoutMs = 10 * 60_000

/** The most claims of a device that wait: their sessions may be gone, and the device stuck. */
const claimsMax = 64

/** A session that has nothing to remember takes no memory for it. */
const noBytes = new Uint8Array(0)
const noWords = new Uint32Array(0)

/** What a server knows of the last request that came with a slot. */
const LastRequest = { none: 0, underWay: 1, answered: 2 } as const

/**
 * What one client holds with one export, across its reconnects. Remembers for every slot the last
 * change that was carried out for it, so that one sent again is answered and not done twice.
 */
export class Session {
  /** Tells it from all others of this server, also from one that the same client had before. */
  readonly number: number
  readonly key: string
  /** What the client that made it has proven. */
  readonly owner: string
  target: Export
  /** True once rules have changed: its client may have other rights when it comes back. */
  mayDiffer = false
  /** Wall clock, milliseconds. */
  readonly since: number
  epoch = 0
  /** The fence number that this session has claimed its device with. */
  claim = 0
  /** The claim in force, 0 for none, and what the device was claimed with last, given up or not. */
  private claimHighest = 0
  private claimLast = 0
  private toldReplaced = false
  readonly connections = new Set<SessionConnection>()
  /** Monotonic, milliseconds: when the last connection went. */
  idleSince: number
  /** Requests that the device has, of every connection so far. */
  inFlight = 0
  /** How many of these are changes. */
  changing = 0
  private readonly payloadMax: number
  private told: Facts | null = null
  private toldRestarts = 0
  /** Made with the first request; the others with the first change. */
  private states = noBytes
  private sequences = noWords
  private results = noBytes
  /** True while requests of older connections are under way, also if no connection waits for it. */
  draining = false
  /** Callbacks of the connections that wait until nothing is in flight. */
  private readonly whenIdle = new Map<SessionConnection, () => void>()
  private readonly whenUnchanging: (() => void)[] = []

  constructor(number: number, { key, owner, target, payloadMax, clock }: SessionSetting) {
    this.number = number
    this.key = key
    this.owner = owner
    this.target = target
    this.payloadMax = payloadMax
    this.since = clock.wall()
    this.idleSince = clock.now()
    target.device.watch(this.changed)
  }

  close(): void {
    this.target.device.unwatch(this.changed)
  }

  /** Whether a newer head has taken over from this session, also if it gave the claim up since. */
  get fenced(): boolean {
    return this.claim < (this.claim === 0 ? this.claimHighest : this.claimLast)
  }

  /** True when it may not even read: it was the head, and does not know what it has missed. */
  get replaced(): boolean {
    return this.claim > 0 && this.fenced
  }

  /** Looks up the claims of the device, and tells the session's client if it was outbid. */
  see(claims: Claims): void {
    const { device } = this.target
    this.claimHighest = claims.of(device)
    this.claimLast = claims.last(device)
    const told = this.toldReplaced
    this.toldReplaced = this.replaced
    if (told || !this.replaced) return
    for (const connection of this.connections) connection.tellFenced?.(this.claimLast)
  }

  /** True once it has changed anything: then there is something to remember. */
  get wrote(): boolean {
    return this.sequences !== noWords
  }

  /** True while the slot's last request is unanswered: the slot cannot be used again. */
  busy(slot: number): boolean {
    return this.states[slot] === LastRequest.underWay
  }

  /** The status of a change that was carried out already; -1 for a new one. */
  recall(slot: number, sequence: number): number {
    const known = this.states[slot] === LastRequest.answered && this.sequences[slot] === sequence
    return known ? this.results[slot]! : -1
  }

  /** The slot's request goes to the device. */
  begin(slot: number, sequence: number, operation: Operation): void {
    if (this.states === noBytes) this.states = new Uint8Array(slotsMax)
    this.states[slot] = LastRequest.underWay
    this.inFlight++
    if (!isChange(operation)) return
    if (this.sequences === noWords) {
      this.sequences = new Uint32Array(slotsMax)
      this.results = new Uint8Array(slotsMax)
    }
    this.sequences[slot] = sequence
    this.changing++
  }

  /** The device has answered the slot's request. */
  finish(slot: number, status: number, operation: Operation): void {
    const changes = isChange(operation)
    this.states[slot] = changes ? LastRequest.answered : LastRequest.none
    this.inFlight--
    if (changes) {
      this.results[slot] = status
      this.changing--
    }
    if (this.changing === 0 && this.whenUnchanging.length > 0)
      for (const callback of this.whenUnchanging.splice(0)) callback()
    if (this.inFlight > 0) return
    this.draining = false
    if (this.whenIdle.size === 0) return
    const told = [...this.whenIdle.values()]
    this.whenIdle.clear()
    for (const callback of told) callback()
  }

  /**
   * Calls back once nothing that older connections brought is under way, perhaps at once; not after
   * the connection was removed.
   */
  drained(connection: SessionConnection, callback: () => void): void {
    // While a connection waits, requests of the newest epoch have not begun.
    if (this.inFlight === 0) callback()
    else {
      this.draining = true
      this.whenIdle.set(connection, callback)
    }
  }

  remove(connection: SessionConnection): void {
    this.connections.delete(connection)
    this.whenIdle.delete(connection)
  }

  unchanging(callback: () => void): void {
    if (this.changing === 0) callback()
    else this.whenUnchanging.push(callback)
  }

  kickAll(reason: string): void {
    for (const connection of [...this.connections]) connection.kick(reason)
    this.connections.clear()
    this.whenIdle.clear()
  }

  /** What a client is told of the device; null until its facts are known. */
  facts(): WireFacts | null {
    const { device, readOnly } = this.target
    const { facts } = device
    if (facts === null) return null
    this.told = facts
    this.toldRestarts = this.restarts
    const seen: Facts = {
      ...facts,
      payloadMax: roundDown(this.payloadMax, facts.blockSize),
      readOnly: facts.readOnly || readOnly,
      // What the device emulates is done on this side.
      flush: facts.flush === 'none' ? 'none' : 'native',
      fua: facts.fua === 'none' ? 'none' : 'native',
      writeZeroes: facts.writeZeroes === 'none' ? 'none' : 'native',
      status: 'native',
    }
    const { word } = device.state
    return { facts: seen, word: word === 'online' || word === 'degraded' ? word : 'offline' }
  }

  /** How often a target below may have been put back to an older state: see `restartsOf`. */
  get restarts(): number {
    return restartsOf(this.target.device) ?? 0
  }

  private goesOn(told: Facts, facts: Facts): boolean {
    const wasPutBack = this.restarts !== this.toldRestarts
    return same(told, facts) && facts.size >= told.size && !wasPutBack
  }

  private readonly changed = (device: Device): void => {
    if (this.connections.size === 0) return
    const { told } = this
    const { facts } = device
    if (device.state.word === 'closed') this.kickAll('the device is closed')
    else if (told !== null && facts !== null && !this.goesOn(told, facts))
      // What is in flight belongs to the device as it was: only a new hello starts afresh.
      this.kickAll('the device is not what it was')
    else for (const connection of this.connections) this.tell(connection)
  }

  private tell(connection: SessionConnection): void {
    const facts = this.facts()
    if (facts !== null) connection.tellFacts(facts)
  }
}

interface SessionSetting {
  readonly key: string
  readonly owner: string
  readonly target: Export
  readonly payloadMax: number
  readonly clock: Clock
}

/** All sessions of one server, and the claims of devices. */
export class Sessions {
  readonly claims: Claims
  private readonly clock: Clock
  private readonly payloadMax: number
  /** By client and export. Limits of connections bound those that have connections. */
  private readonly sessions = new Map<string, Session>()
  private made = 0
  private readonly away = new AwaySessions<Session>()
  /** Claims that wait for changes under way. */
  private readonly claiming = new WeakMap<Device, number>()

  /** `payloadMax` in bytes: the longest read or write. */
  constructor(clock: Clock, payloadMax: number, claims: Claims) {
    this.claims = claims
    claims.resetWatchers.add(this.claimWasReset)
    this.clock = clock
    this.payloadMax = payloadMax
  }

  get count(): number {
    return this.sessions.size
  }

  all(): Iterable<Session> {
    return this.sessions.values()
  }

  /**
   * Adds a connection to its session; `claims` are ready. A newer epoch closes the older
   * connections and waits for what they left in the device, so that none of it lands after what
   * comes now. Calls back with the session or why not, perhaps at once, and perhaps after the
   * connection was closed. Returns the session to `detach` the connection from then; null when it
   * was not added to one.
   */
  attach(
    hello: Hello,
    target: Export,
    connection: SessionConnection,
    done: (result: Session | StorageError) => void,
  ): Session | null {
    const known = this.find(hello, target)
    // Before all else: who has learnt the id of another client learns nothing more by it.
    const foreign = known === null ? null : notItsOwner(known, connection)
    const refusal = foreign ?? this.refusal(hello, target, known)
    if (refusal !== null) {
      done(refusal)
      return null
    }
    // Not before: a client that is refused and comes again would pass for one that is remembered.
    const session = known ?? this.begin(hello, target, connection.owner)
    this.away.delete(session)
    const newer = hello.epoch > session.epoch
    if (newer) {
      session.kickAll('replaced by a newer connection of the same client')
      session.epoch = hello.epoch
      session.target = target
      session.mayDiffer = false
    }
    session.connections.add(connection)
    session.see(this.claims)
    const drained = (): void => {
      if (hello.claim === 0) done(session)
      else
        void this.claim(session, hello.claim).then(
          () => done(session),
          (error: unknown) => done(error as StorageError),
        )
    }
    if (newer || session.draining) session.drained(connection, drained)
    else drained()
    return session
  }

  detach(session: Session, connection: SessionConnection): void {
    session.remove(connection)
    session.idleSince = this.clock.now()
    if (session.connections.size > 0 || this.sessions.get(session.key) !== session) return
    const evicted = this.away.add(session)
    if (evicted !== null) this.forget(evicted)
  }

  /**
   * Makes the session's head the only writer. Resolves when that is durable and no change of an
   * older head is under way any more. Rejects with FENCED when this is the older one, or claims
   * less than was given up, and with READ_ONLY when it may not write at all. The number 0 gives
   * the claim up: then sessions without a claim may write, and those with an older one may not.
   */
  async claim(session: Session, fence: number): Promise<void> {
    const forbidden = mayNotClaim(session.target)
    if (forbidden !== null) throw forbidden
    const { device } = session.target
    const last = this.claims.last(device)
    const leap = tooHigh(last, fence)
    if (leap !== null) throw leap
    if (fence === 0 ? session.fenced : fence < last) throw tooLow(last, fence)
    const underWay = this.claiming.get(device) ?? 0
    if (underWay >= claimsMax) throw busy('too many claims wait for the device')
    this.claiming.set(device, underWay + 1)
    try {
      await this.takeOver(session, fence)
    } finally {
      this.claiming.set(device, this.claiming.get(device)! - 1)
    }
  }

  /** What a claim of the session's device must not be below, here and further down. */
  async claimed({ target: { device } }: Session): Promise<Claimed> {
    const here = this.claims.describe(device)
    const below = await device.driver.claimed?.()
    return below === undefined ? here : claimedOf([here, below])
  }

  private async takeOver(session: Session, fence: number): Promise<void> {
    const { device } = session.target
    session.claim = fence
    const waits = [this.claims.set(device, fence)]
    if (fence > 0) waits.push(this.claims.unchanging(device))
    for (const other of this.sessions.values()) {
      if (other.target.device.facts?.identity !== device.facts?.identity) continue
      other.see(this.claims)
      if (other.fenced) waits.push(new Promise((resolve) => other.unchanging(resolve)))
    }
    await Promise.all(waits)
    await device.driver.claim?.(fence)
  }

  /** Forgets sessions that have been without connections for long. */
  expire(): void {
    const before = this.clock.now() - sessionTimeoutMs
    for (const session of this.sessions.values())
      if (idle(session) && session.idleSince < before) this.forget(session)
  }

  close(): void {
    this.claims.resetWatchers.delete(this.claimWasReset)
    for (const session of this.sessions.values()) this.forget(session)
  }

  /** Heads come again and claim anew: the highest of them has the device. */
  private readonly claimWasReset = (identity: string): void => {
    for (const session of this.sessions.values()) {
      if (session.target.device.facts?.identity !== identity) continue
      if (session.claim > 0) session.kickAll('an operator has reset the claim of the device')
      session.claim = 0
      session.see(this.claims)
    }
  }

  private find(hello: Hello, target: Export): Session | null {
    const known = this.sessions.get(keyOf(hello, target))
    // An export that was removed and added again may be another device.
    if (known?.target.device === target.device) return known
    if (known !== undefined) {
      known.kickAll('the export is another device now')
      this.forget(known)
    }
    return null
  }

  private begin(hello: Hello, target: Export, owner: string): Session {
    const { payloadMax, clock } = this
    const key = keyOf(hello, target)
    const session = new Session(++this.made, { key, owner, target, payloadMax, clock })
    this.sessions.set(key, session)
    return session
  }

  private refusal(hello: Hello, target: Export, session: Session | null): StorageError | null {
    const { device } = target
    if (device.facts === null)
      return new StorageError('UNAVAILABLE', `${device.path}: ${device.state.reason}`)
    // Also when the newer head has given it up since: this one does not know what it missed.
    const claimed = this.claims.last(device)
    const leap = tooHigh(claimed, hello.claim)
    if (leap !== null) return leap
    if (hello.claim > 0 && hello.claim < claimed) return tooLow(claimed, hello.claim)
    if (session === null) return null
    if (session.target !== target && !(session.mayDiffer && hello.epoch > session.epoch))
      return new StorageError('PROTOCOL', 'the session is of a client with other rights')
    if (hello.epoch < session.epoch)
      return new StorageError('STALE', `this session is at epoch ${session.epoch} already`)
    if (hello.epoch > session.epoch) return null
    if (session.connections.size >= connectionsPerSession) return busy('too many connections')
    for (const { index } of session.connections)
      if (index === hello.index)
        return new StorageError('PROTOCOL', `connection ${index} is there already`)
    return null
  }

  private forget(session: Session): void {
    session.close()
    this.sessions.delete(session.key)
    this.away.delete(session)
  }
}

function keyOf({ client }: Hello, { name }: Export): string {
  return `${client} ${name}`
}

function idle(session: Session): boolean {
  return session.connections.size === 0 && session.inFlight === 0
}

function busy(what: string): StorageError {
  return new StorageError('BUSY', what)
}
