import type { Clock } from '../base/clock.ts'
import { StorageError, systemError, type Code } from '../base/errors.ts'
import { emulateFua, emulateWriteZeroes, splitLarge } from './emulation.ts'
import { digest, type Claimed, type Facts, type Fencing } from './facts.ts'
import { CacheLife, mayHaveLost } from './life.ts'
import { Latency } from './latency.ts'
import type { Lives } from './lives.ts'
import { Flag, isChange, Operation } from './request.ts'
import type { Completer, Request } from './request.ts'
import { Unflushed } from './unflushed.ts'
import { validate, whyRefused } from './validate.ts'

export type { Ability, Claimed, Facts, Fencing } from './facts.ts'

/**
 * opening: never reachable so far. online: takes requests. degraded: takes requests with less
 * safety, from fewer children, or holding them while it reconnects; the reason says which.
 * offline: does not answer, requests fail at once; it comes back by itself. failed: will not come
 * back without an operator.
 */
export type StateWord = 'opening' | 'online' | 'degraded' | 'offline' | 'failed' | 'closed'

export interface State {
  readonly word: StateWord
  /** A sentence for people; '' when all is well. */
  readonly reason: string
  /** Wall clock, milliseconds: when the word became true. */
  readonly since: number
  /** Of a device that takes no requests: what they fail with, if that says more than the word. */
  readonly code?: Code
}

/** Per operation, since the device was opened; indexed by `Operation`. */
export class Counters {
  readonly operations = [0, 0, 0, 0, 0, 0]
  readonly bytes = [0, 0, 0, 0, 0, 0]
  readonly errors = [0, 0, 0, 0, 0, 0]
  inFlight = 0
  /** Of a request that was carried out, not of one that was refused; null if none failed. */
  lastError: StorageError | null = null
  /** Wall clock, milliseconds. */
  lastErrorAt = 0
}

/** What a driver tells the device that wraps it. */
export interface DriverHost {
  readonly path: string
  readonly clock: Clock
  /** The device takes requests and this is true of it; again whenever something changes. */
  online(facts: Facts, word?: 'online' | 'degraded', reason?: string): void
  /** The device does not answer, see `State`. Facts once learnt stay. */
  offline(word: 'offline' | 'failed', reason: string, code?: Code): void
}

/**
 * The data path and life of one kind of device. Drivers check nothing, count nothing and emulate
 * nothing: `Device` did so before. A driver completes each request exactly once, at any time, also
 * before `submit` returns, and only when nothing below refers to the request's segments any more
 * except through a lease of its own. It may change `request.offset` before it forwards the request.
 *
 * Order: requests in flight together may be carried out in any order. Who needs an order waits.
 */
export interface Driver {
  /** The configuration's word: file, memory, remote, nbd, linear, mirror, error, delay, log. */
  readonly type: string
  readonly children: readonly Device[]
  /** Whether a forced change that fails with NO_SPACE may have failed in its flush. */
  readonly flushesUnseen?: boolean
  /** Whether it is empty after every start. */
  readonly forgets?: boolean
  /**
   * How often the driver reconnected to a server that may have restarted in between, and whose disk
   * may have been put back to an older state. Null where the driver looks after that by itself;
   * absent where only the children can be put back while the device is open.
   */
  readonly restarts?: number | null
  /**
   * Starts. Resolves when the first attempt came to an end, well or not: a remote that is away does
   * not stop the start. Rejects with a StorageError only for what an operator must mend. Children
   * have been opened before.
   */
  open(host: DriverHost): Promise<void>
  /** Stops: no request is in flight. Children are closed afterwards. Idempotent. */
  close(): Promise<void>
  submit(request: Request): void
  /** What `status` shows beyond the device's own words: plain JSON, no secrets. */
  describe(): Record<string, unknown>
  /**
   * Looks whether the device has grown, and says so through the host. Never rejects. Absent where
   * the driver is told by itself.
   */
  look?(): Promise<void>
  /**
   * A token that changes whenever the content was changed by anybody: an inode's change time, a
   * counter, the remote's answer, the tokens of all children. Absent where nobody can tell.
   */
  stamp?(): Promise<string>
  /**
   * Makes this process the only writer: whoever claimed with a lower epoch is refused from now on
   * with FENCED, here and below, also after a restart of who refuses. Rejects with FENCED when a
   * higher epoch has claimed, also if that claim was given up since. Epoch 0 gives the claim up:
   * anybody may write. Absent where there is no one to tell.
   */
  claim?(epoch: number): Promise<void>
  /** What comes of it for who claimed less; absent where nobody is refused. */
  fencing?(): Fencing
  /** What `claim` must not be below. Rejects when nobody answers. Absent where `claim` is. */
  claimed?(): Promise<Claimed>
}

/** Told whenever a device's state or facts changed. */
export type Watcher = (device: Device) => void

/**
 * A node of the tree, whatever it is made of. Checks, emulation and accounting live here, once, so
 * that leaves, compositions and fault layers are all the same to whoever calls them.
 */
export class Device implements DriverHost {
  /** Place in the tree: `home/right/0`. */
  readonly path: string
  readonly driver: Driver
  readonly clock: Clock
  readonly counters = new Counters()
  readonly latency: Latency
  state: State
  /** The error of the flush that ended the life of the cache before this one; null if none did. */
  flushError: StorageError | null = null
  /** Told of every request that was carried out and failed; for a log, which must choose. */
  onError: ((device: Device, error: StorageError) => void) | null = null
  private known: Facts | null = null
  private readonly unflushed = new Unflushed()
  private life = new CacheLife(this)
  /** The driver's boot id of a life of its cache in which a flush failed, and what it is since. */
  private renamed: { readonly from: string; readonly to: string } | null = null
  /** What is refused says something about who asks, and nothing about the device. */
  private readonly refusals: Completer = {
    completed: (request) => {
      this.counters.errors[request.operation]!++
      this.leave(request)
    },
  }
  private readonly watchers = new Set<Watcher>()
  private idle: (() => void) | null = null
  private closing: Promise<void> | null = null
  /** Told that the life of the cache cannot be kept: a later process may not tell of it. */
  onUnkept: (error: unknown) => void = () => undefined
  /** Keeps changed boot ids over restarts. Null where the driver does so, or none is needed. */
  private readonly lives: Lives | null
  /** What the driver called it first in this process. */
  private firstBootId = ''
  /** Resolves when the life of the cache is durable: failures are told after it. */
  private keeping: Promise<void> | null = null

  constructor(path: string, driver: Driver, clock: Clock, lives: Lives | null = null) {
    this.lives = lives
    this.path = path
    this.driver = driver
    this.clock = clock
    this.latency = new Latency(clock)
    this.state = { word: 'opening', reason: 'not opened yet', since: clock.wall() }
  }

  /** Null until the device was online once. */
  get facts(): Facts | null {
    return this.known
  }

  /** Whether requests make sense now: the device is online or degraded. */
  get usable(): boolean {
    return this.state.word === 'online' || this.state.word === 'degraded'
  }

  /**
   * How often changes were lost that had been acknowledged and not flushed. Flushes do not say so;
   * whoever serves clients has a `LossReport` for each.
   */
  get losses(): number {
    return this.unflushed.losses
  }

  /** Whether changes were acknowledged that no flush has covered yet. */
  get hasUnflushed(): boolean {
    return this.unflushed.pending
  }

  watch(watcher: Watcher): void {
    this.watchers.add(watcher)
  }

  unwatch(watcher: Watcher): void {
    this.watchers.delete(watcher)
  }

  /** Opens the children side by side, then this device. A failed open closes what it opened. */
  async open(): Promise<void> {
    await this.lives?.load(this.clock)
    const opened = await Promise.allSettled(this.driver.children.map((child) => child.open()))
    const failed = opened.find((result) => result.status === 'rejected')
    try {
      if (failed !== undefined) throw failed.reason
      await this.driver.open(this)
    } catch (error) {
      // Why it could not be opened says more than what its closing may say.
      await this.close().catch(() => undefined)
      throw error
    }
  }

  /**
   * Waits for the requests in flight, then closes this device and its children. Rejects with what
   * went wrong first, but not before everything is closed that can be. Idempotent.
   */
  close(): Promise<void> {
    this.closing ??= this.closeOnce()
    return this.closing
  }

  private async closeOnce(): Promise<void> {
    this.enter('closed', '')
    if (this.counters.inFlight > 0) await new Promise<void>((resolve) => (this.idle = resolve))
    const closed = await Promise.allSettled([this.driver.close()])
    const below = this.driver.children.map((child) => child.close())
    closed.push(...(await Promise.allSettled(below)))
    const failed = closed.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw systemError(failed.reason, 'closing', this.path)
  }

  online(facts: Facts, word: 'online' | 'degraded' = 'online', reason = ''): void {
    if (this.state.word === 'closed') return
    const { known } = this
    const { bootId } = facts
    if (known === null) this.recall(facts)
    const { renamed } = this
    const same = renamed !== null && (bootId === renamed.from || bootId === renamed.to)
    if (same) facts = { ...facts, bootId: renamed.to }
    else {
      this.renamed = null
      this.flushError = null
    }
    if (known !== null && (known.bootId !== facts.bootId || known.identity !== facts.identity))
      this.unflushed.cacheLost()
    this.known = facts
    if (known !== null && known.bootId !== facts.bootId) this.keepLife(facts)
    this.enter(word, reason)
  }

  /** What earlier processes saw of the device, which the driver's boot id does not say. */
  private recall({ identity, bootId }: Facts): void {
    const { lives, clock } = this
    if (lives === null) return
    this.firstBootId = bootId
    if (!lives.known)
      lives.lose({ from: bootId, to: digest(`${bootId}: ${clock.wall()} ${clock.now()}`) })
    const to = lives.of(identity, bootId)
    if (to !== null) this.renamed = { from: bootId, to }
  }

  /** Has later processes show the new boot id, too, after a loss of what was not flushed. */
  private keepLife({ identity, bootId }: Facts): void {
    const { lives, clock, firstBootId: from } = this
    if (lives === null || from === bootId) return
    const kept = lives.keep(identity, { from, to: bootId }, clock).catch(this.unkept)
    this.keeping = kept
    void kept.then(() => {
      if (this.keeping === kept) this.keeping = null
    })
  }

  /** @internal A flush failed: what was not flushed is lost, another life of the cache begins. */
  flushFailed(error: StorageError): void {
    const { known, unflushed, state } = this
    // Besides the one that failed, which is told so.
    const others = this.counters.inFlight - 1
    if (known === null || !(unflushed.mayLose || others > 0)) return
    this.life = new CacheLife(this)
    const from = this.renamed?.from ?? known.bootId
    const to = digest(`${known.bootId}: lost ${this.clock.wall()}`)
    this.renamed = { from, to }
    this.flushError = error
    unflushed.cacheLost()
    this.known = { ...known, bootId: to }
    this.keepLife(this.known)
    if (state.word !== 'closed') this.enter(state.word, state.reason, state.code)
  }

  offline(word: 'offline' | 'failed', reason: string, code?: Code): void {
    if (this.state.word === 'closed') return
    // A device that was never reached is still opening, whatever keeps it from it.
    this.enter(this.known === null && word === 'offline' ? 'opening' : word, reason, code)
  }

  /**
   * Carries out a request; its owner is told through `completed`, perhaps before this returns.
   * Whatever is wrong with the request is its error, never an exception.
   */
  submit(request: Request): void {
    const { counters, known } = this
    counters.inFlight++
    const count = counters.operations[request.operation]!++
    if (known === null || !this.usable || validate(request, known) !== null) {
      request.push(this.refusals)
      request.fail(this.refusal(request, known))
      return
    }
    this.latency.submitted(request, count)
    request.push(this.life)
    if (request.operation === Operation.flush) this.unflushed.watch(request)
    this.carryOut(request, known)
  }

  /** Why the request is not carried out. */
  private refusal(request: Request, facts: Facts | null): StorageError {
    const refused = facts !== null && this.usable ? validate(request, facts) : null
    if (refused !== null)
      return new StorageError(refused, whyRefused(refused, request, facts!), this.path)
    const code = this.state.code ?? (this.state.word === 'failed' ? 'IO' : 'UNAVAILABLE')
    return new StorageError(code, this.unavailableReason(), this.path)
  }

  /** @internal The part of `submit` after checks and accounting; what emulation submits again. */
  carryOut(request: Request, facts: Facts): void {
    const { operation, flags } = request
    if ((flags & Flag.fua) !== 0 && facts.fua !== 'native') emulateFua(this, request, facts)
    else if (operation === Operation.writeZeroes && facts.writeZeroes !== 'native')
      emulateWriteZeroes(this, request, facts)
    else if (operation <= Operation.write && request.length > facts.payloadMax)
      splitLarge(this, request, facts)
    else if (operation === Operation.status && facts.status !== 'native') {
      request.extents.add(request.length, 0)
      request.complete()
    } else this.driver.submit(request)
  }

  /** @internal The driver has carried out what was submitted in this life of its cache. */
  ended(request: Request, life: CacheLife): void {
    if (request.error === null && life === this.life) this.account(request)
    else this.doubt(request, life)
  }

  /** It failed, or the cache did meanwhile. */
  private doubt(request: Request, life: CacheLife): void {
    const { operation, flags, error } = request
    const forced = (flags & Flag.fua) !== 0 && this.known!.fua === 'native'
    const cached = operation === Operation.flush || (isChange(operation) && !forced)
    if (life !== this.life) {
      if (error === null && cached)
        request.error = new StorageError('STALE', 'the device lost its cache meanwhile', this.path)
    } else if (error !== null && this.failedToFlush(request, error)) this.flushFailed(error)
    if (this.keeping === null || request.error === null) this.account(request)
    else void this.keeping.then(() => this.account(request))
  }

  /** Whether the error is that of a flush, or of the one behind a forced change. */
  private failedToFlush({ operation, flags }: Request, error: StorageError): boolean {
    if (operation === Operation.flush) return mayHaveLost(error)
    if ((flags & Flag.fua) === 0 || this.known!.fua !== 'native') return false
    // Want of space costs this write alone, see `Forced`; who flushes unseen may lose more.
    if (error.code === 'NO_SPACE' && this.driver.flushesUnseen !== true) return false
    return mayHaveLost(error)
  }

  private account(request: Request): void {
    const { counters } = this
    this.latency.completed(request)
    const { operation, flags } = request
    if (request.error === null) {
      counters.bytes[operation]! += request.length
      if (isChange(operation) && (flags & Flag.fua) === 0) this.unflushed.acknowledge()
    } else {
      if (isChange(operation)) this.unflushed.fail()
      counters.errors[operation]!++
      counters.lastError = request.error
      counters.lastErrorAt = this.clock.wall()
      this.onError?.(this, request.error)
    }
    this.leave(request)
  }

  private leave(request: Request): void {
    if (--this.counters.inFlight === 0 && this.idle !== null) this.idle()
    request.complete()
  }

  private enter(word: StateWord, reason: string, code?: Code): void {
    const since = word === this.state.word ? this.state.since : this.clock.wall()
    this.state = code === undefined ? { word, reason, since } : { word, reason, since, code }
    for (const watcher of [...this.watchers]) watcher(this)
  }

  private readonly unkept = (error: unknown): void => {
    this.onUnkept(error)
  }

  private unavailableReason(): string {
    return `device is ${this.state.word}${this.state.reason === '' ? '' : `: ${this.state.reason}`}`
  }
}
