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

/** The state of a device. Replaced, never changed in place. */
export interface State {
  readonly word: StateWord
  /** A sentence for people; '' when all is well. */
  readonly reason: string
  /** Wall clock in milliseconds since which the word is true. */
  readonly since: number
  /** What requests fail with while the device takes none, where it says more than the word. */
  readonly code?: Code
}

/** Counts since the device was opened; the lists are indexed by `Operation`. */
export class Counters {
  readonly operations = [0, 0, 0, 0, 0, 0]
  readonly bytes = [0, 0, 0, 0, 0, 0]
  readonly errors = [0, 0, 0, 0, 0, 0]
  inFlight = 0
  /** The newest error of a request that was carried out, not refused; null if none failed. */
  lastError: StorageError | null = null
  /** Wall clock of `lastError`, milliseconds. */
  lastErrorAt = 0
}

/** What a driver tells the device that wraps it. */
export interface DriverHost {
  readonly path: string
  readonly clock: Clock
  /** The device takes requests and has these facts. Called again whenever something changes. */
  online(facts: Facts, word?: 'online' | 'degraded', reason?: string): void
  /** The device does not answer, see `State`. Facts learnt before stay. */
  offline(word: 'offline' | 'failed', reason: string, code?: Code): void
}

/**
 * The data path and life of one kind of device. Drivers check nothing, count nothing and emulate
 * nothing: `Device` did so before. A driver completes each request exactly once, at any time, also
 * before `submit` returns, and only when nothing below refers to the request's segments any more
 * except through a lease of its own. It may change `request.offset` before it forwards the request.
 *
 * Requests in flight together may be carried out in any order: a caller that needs one waits.
 */
export interface Driver {
  /** The configuration's word: file, memory, remote, nbd, linear, mirror, error, delay, log. */
  readonly type: string
  readonly children: readonly Device[]
  /** True if a forced change that fails with NO_SPACE may have failed in its flush. */
  readonly flushesUnseen?: boolean
  /** True if the device is empty after every start. */
  readonly forgets?: boolean
  /**
   * How often the driver reconnected to a server that may have restarted in between with a disk in
   * an older state. Null where the driver finds that out by itself; absent where only the children
   * can be put back while the device is open.
   */
  readonly restarts?: number | null
  /**
   * Starts; the children are open by then. Resolves when the first attempt has ended, well or not:
   * a remote that is away does not stop the start. Rejects with a StorageError only for what an
   * operator must mend.
   */
  open(host: DriverHost): Promise<void>
  /** Stops. No request is in flight; the children are closed afterwards. Idempotent. */
  close(): Promise<void>
  submit(request: Request): void
  /** What `status` shows beyond the device's own words: plain JSON, no secrets. */
  describe(): Record<string, unknown>
  /**
   * Checks whether the device has grown, and tells the host if it has. Never rejects. Absent where
   * the driver hears of growth without asking.
   */
  look?(): Promise<void>
  /**
   * Resolves to a token that changes with the content, whichever process changes it: an inode's
   * change time, a counter, the remote's answer, the tokens of all children. Absent where the
   * driver cannot tell.
   */
  stamp?(): Promise<string>
  /**
   * Makes this process the only writer: a head that claimed with a lower fence number is refused
   * with FENCED from now on, here and below, also after the refusing target restarts. Rejects with
   * FENCED when a higher one has claimed, also if that claim was given up since. The number 0 gives
   * the claim up, and any head may write. Absent where nothing below keeps claims.
   */
  claim?(fence: number): Promise<void>
  /** How a head that claimed less learns of a claim; absent where none is refused. */
  fencing?(): Fencing
  /** What `claim` must not be below; rejects without an answer. Absent as `claim` is. */
  claimed?(): Promise<Claimed>
}

/** Called whenever a device's state or facts have changed. */
export type Watcher = (device: Device) => void

/**
 * A node of the tree, around a driver. Checks, emulation and accounting live here, once, so that
 * leaves, compositions and layers look the same to their callers.
 */
export class Device implements DriverHost {
  /** Place in the tree: `home/right/0`. */
  readonly path: string
  readonly driver: Driver
  readonly clock: Clock
  readonly counters = new Counters()
  readonly latency: Latency
  state: State
  /** The error of the failed flush that began this life of the cache; null if none did. */
  flushError: StorageError | null = null
  /** Called for every request that was carried out and failed; a log must choose among them. */
  onError: ((device: Device, error: StorageError) => void) | null = null
  private known: Facts | null = null
  private readonly unflushed = new Unflushed()
  private life = new CacheLife(this)
  /** The driver's boot id during which a flush failed, and the one that is shown instead. */
  private renamed: { readonly from: string; readonly to: string } | null = null
  /** Counts refused requests apart: they say something of the caller, nothing of the device. */
  private readonly refusals: Completer = {
    completed: (request) => {
      this.counters.errors[request.operation]!++
      this.leave(request)
    },
  }
  /** Rounds block status to this device's blocks: those of the devices below may be smaller. */
  private readonly rounding: Completer = {
    completed: (request) => {
      const { error, extents, length } = request
      if (error === null) extents.roundTo(this.known!.blockSize, length)
      request.complete()
    },
  }
  private readonly watchers = new Set<Watcher>()
  private idle: (() => void) | null = null
  private closing: Promise<void> | null = null
  /** Called when a new life of the cache cannot be saved: a later process may not show it. */
  onUnkept: (error: unknown) => void = () => undefined
  /** Keeps changed boot ids over restarts; null where the driver does, or none has to be kept. */
  private readonly lives: Lives | null
  /** The first boot id that the driver gave in this process. */
  private firstBootId = ''
  /** Resolves when the new life of the cache is durable: failed requests end after that. */
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

  /** True while the device takes requests: it is online or degraded. */
  get usable(): boolean {
    return this.state.word === 'online' || this.state.word === 'degraded'
  }

  /**
   * How often acknowledged changes were lost that no flush had covered. Flushes do not report that:
   * a service has a `LossReport` for each client.
   */
  get losses(): number {
    return this.unflushed.losses
  }

  /** True while changes are acknowledged that no flush has covered yet. */
  get hasUnflushed(): boolean {
    return this.unflushed.pending
  }

  watch(watcher: Watcher): void {
    this.watchers.add(watcher)
  }

  unwatch(watcher: Watcher): void {
    this.watchers.delete(watcher)
  }

  /** Opens the children side by side, then this device. Rejects if one fails, and closes all. */
  async open(): Promise<void> {
    await this.lives?.load(this.clock)
    const opened = await Promise.allSettled(this.driver.children.map((child) => child.open()))
    const failed = opened.find((result) => result.status === 'rejected')
    try {
      if (failed !== undefined) throw failed.reason
      await this.driver.open(this)
    } catch (error) {
      // The error of opening says more than one of closing.
      await this.close().catch(() => undefined)
      throw error
    }
  }

  /**
   * Waits for the requests in flight, then closes this device and its children. Rejects with the
   * first error, but not before everything is closed that can be. Idempotent.
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

  /** Recalls a flush that failed in an earlier process: the driver's boot id does not show it. */
  private recall({ identity, bootId }: Facts): void {
    const { lives, clock } = this
    if (lives === null) return
    this.firstBootId = bootId
    if (!lives.known)
      lives.lose({ from: bootId, to: digest(`${bootId}: ${clock.wall()} ${clock.now()}`) })
    const to = lives.of(identity, bootId)
    if (to !== null) this.renamed = { from: bootId, to }
  }

  /** Saves the new boot id after a loss of unflushed changes, so that later processes show it. */
  private keepLife({ identity, bootId }: Facts): void {
    const { lives, clock, firstBootId: from } = this
    if (lives === null || from === bootId) return
    const kept = lives.keep(identity, { from, to: bootId }, clock).catch(this.onUnkept)
    this.keeping = kept
    void kept.then(() => {
      if (this.keeping === kept) this.keeping = null
    })
  }

  /** @internal A flush failed: unflushed changes are lost, and a new life of the cache begins. */
  flushFailed(error: StorageError): void {
    const { known, unflushed, state } = this
    // The failed flush itself is answered with its error.
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
    // A device that was never reached is still opening.
    this.enter(this.known === null && word === 'offline' ? 'opening' : word, reason, code)
  }

  /**
   * Carries out a request and then calls `completed` of its owner, perhaps before this returns. A
   * request that makes no sense fails; this never throws.
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

  /** The error of a request that is not carried out. */
  private refusal(request: Request, facts: Facts | null): StorageError {
    const refused = facts !== null && this.usable ? validate(request, facts) : null
    if (refused !== null)
      return new StorageError(refused, whyRefused(refused, request, facts!), this.path)
    const { word, reason, code = word === 'failed' ? 'IO' : 'UNAVAILABLE' } = this.state
    const why = reason === '' ? '' : `: ${reason}`
    return new StorageError(code, `device is ${word}${why}`, this.path)
  }

  /** @internal The part of `submit` after checks and accounting, which emulation uses, too. */
  carryOut(request: Request, facts: Facts): void {
    const { operation, flags } = request
    if ((flags & Flag.fua) !== 0 && facts.fua !== 'native') emulateFua(this, request, facts)
    else if (operation === Operation.writeZeroes && facts.writeZeroes !== 'native')
      emulateWriteZeroes(this, request, facts)
    else if (operation <= Operation.write && request.length > facts.payloadMax)
      splitLarge(this, request, facts)
    else if (operation === Operation.status) this.tellStatus(request, facts)
    else this.driver.submit(request)
  }

  private tellStatus(request: Request, { status, blockSize }: Facts): void {
    if (status !== 'native') {
      request.extents.add(request.length, 0)
      request.complete()
      return
    }
    if (blockSize > 1) request.push(this.rounding)
    this.driver.submit(request)
  }

  /** @internal The driver has completed a request that was submitted in this life of the cache. */
  ended(request: Request, life: CacheLife): void {
    if (request.error === null && life === this.life) this.account(request)
    else this.doubt(request, life)
  }

  /** Ends a request that failed, or during which the device lost its cache. */
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

  /** True if a flush failed, or the one behind a forced change, so that data may be lost. */
  private failedToFlush({ operation, flags }: Request, error: StorageError): boolean {
    if (operation === Operation.flush) return mayHaveLost(error)
    if ((flags & Flag.fua) === 0 || this.known!.fua !== 'native') return false
    // Lack of space costs this write alone, see `Forced`, unless the driver flushes unseen.
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
}
