import type { Clock } from '../base/clock.ts'
import { StorageError, type Code } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { Mutex } from '../base/mutex.ts'
import type { Random } from '../base/random.ts'
import { RangeLock } from '../base/range-lock.ts'
import type { StateStore } from '../base/store.ts'
import type { DriverHost, Facts } from '../device/device.ts'
import type { Request } from '../device/request.ts'
import { announce, type Told, type VolumeWord } from './announce.ts'
import { IntentLog } from './data/intent.ts'
import type { Job } from './data/job.ts'
import { Jobs } from './data/jobs.ts'
import { addEntry } from './data/ledger.ts'
import { WriteLatency } from './data/pace.ts'
import { isQuestion, Parking } from './data/parking.ts'
import type { Resync } from './data/resync.ts'
import { ShortJobs } from './data/short.ts'
import type { Verify, VerifyResult } from './data/verify.ts'
import { legChanged } from './departure.ts'
import { extentCount, type Geometry } from './layout.ts'
import { Leg } from './leg.ts'
import { Membership } from './membership.ts'
import type { HistoryKind, ResyncSummary, VolumeRecord } from './record.ts'
import { isOver, noRun as createNoRun, type Run } from './rules/run.ts'
import { mirrorDefaults } from './settings.ts'
import type { LegOptions, MirrorOptions, MirrorSettings, VolumeHooks } from './settings.ts'
import { ClaimAbove } from './start/above.ts'
import { HeadMemory } from './start/head-memory.ts'
import { Looking } from './start/looking.ts'
import { Marks } from './start/marks.ts'
import { Tries } from './start/tries.ts'
import { Watchdog } from './watchdog.ts'

const noRun = createNoRun<Leg>()

/**
 * Everything that the parts of a mirror share. A run lasts from a start to the loss of every leg.
 * What it knows is in its `Membership`, which drops what comes late for an ended run.
 */
export class Volume {
  readonly settings: MirrorSettings
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly store: StateStore | null
  readonly key: string
  readonly parking: Parking
  /** Has commands and starts run one after the other. */
  readonly control = new Mutex()
  readonly watchdog = new Watchdog(this)
  readonly looking = new Looking()
  readonly short = new ShortJobs(this)
  readonly marks = new Marks(this)
  /** In the order of the configuration. */
  legs: Leg[] = []
  path = ''
  word: VolumeWord = 'waiting'
  reason = 'not opened yet'
  /** Bytes up to which the volume grows. */
  sizeMax: number
  /** Counts the ends of runs, and of attempts at one that came to no run. */
  epoch = 0
  record: VolumeRecord | null = null
  extentSize = 0
  /** Id of the generation of a start that failed: nothing was served in it. */
  unserved = ''
  readonly head = new HeadMemory()
  readonly above = new ClaimAbove()

  /** Replaced at every start. */
  locks = new RangeLock()
  membership!: Membership
  intent!: IntentLog

  /** What the rules know of the run. */
  run: Run<Leg> = noRun
  /** Legs durably in sync, the best to read from first; and those that are equally good. */
  readable: readonly Leg[] = []
  readers: readonly Leg[] = []

  readonly jobs = new Jobs(this)
  readonly resyncs = new Map<Leg, Resync>()
  /** Called when the run ends, so that waits for what will not come end too. */
  onEnd = new Set<() => void>()
  readonly latency = new WriteLatency()
  /** Legs that an operation keeps from coming back by themselves. */
  readonly held = new Set<Leg>()
  /** Removed and detached legs that are still claimed, see `giveUp`. */
  readonly leaving = new Set<Leg>()
  host: DriverHost | null = null
  told: Told | null = null
  /** Whether clients were ever served; and since when they are, on the clock's scale. */
  ran = false
  runningSince = 0
  verifying: Verify | null = null
  readonly hooks: VolumeHooks
  /** Whether the volume is suspended only to start anew, larger. */
  growing = false
  readonly tries = new Tries(this)
  private readonly watchers = new Map<Leg, () => void>()

  constructor(options: MirrorOptions, hooks: VolumeHooks) {
    this.hooks = hooks
    this.settings = { ...mirrorDefaults, ...options.settings }
    this.sizeMax = this.settings.size ?? Infinity
    this.clock = options.clock
    this.random = options.random
    this.log = options.log
    this.store = options.store
    this.key = options.key
    const { suspendRequestsMax, suspendBytesMax, suspendMs } = this.settings
    const limits = { requestsMax: suspendRequestsMax, bytesMax: suspendBytesMax, waitMs: suspendMs }
    this.parking = new Parking(this.clock, limits, options.key, () => this.heldUpBy)
    for (const leg of options.legs) this.addLeg(leg)
  }

  /** Opens the volume as a part of the device tree. */
  open(host: DriverHost): void {
    this.host = host
    this.path = host.path
    this.tries.beginAnew()
  }

  /** Stops listening to legs and telling the host, and closes the volume. */
  end(): void {
    this.host = null
    this.watchdog.stop()
    for (const leg of this.legs) this.unwatch(leg)
    if (this.word !== 'closed') this.halt('closed', 'closed')
  }

  get geometry(): Geometry {
    return this.record!
  }

  get extents(): number {
    return extentCount(this.record!)
  }

  get minInSync(): number {
    return Math.min(this.settings.minInSync, this.legs.length)
  }

  /** Legs in sync, durably or about to be; `writers`: those that get writes. */
  get inSync(): readonly Leg[] {
    return this.run.inSync
  }

  get writers(): readonly Leg[] {
    return this.run.writers
  }

  get running(): boolean {
    return this.word === 'running'
  }

  /** Whether legs take part: the volume runs, or is about to. */
  get active(): boolean {
    return this.word === 'running' || this.word === 'starting'
  }

  addLeg(options: LegOptions): Leg {
    const leg = new Leg(options, {
      onBusy: () => {
        this.watchdog.wake()
      },
      onReady: () => {
        this.look(leg)
      },
    })
    const watcher = (): void => {
      legChanged(this, leg)
    }
    this.legs = [...this.legs, leg]
    this.watchers.set(leg, watcher)
    leg.device.watch(watcher)
    return leg
  }

  dropLeg(leg: Leg): void {
    this.legs = this.legs.filter((one) => one !== leg)
    this.unwatch(leg)
  }

  private unwatch(leg: Leg): void {
    const watcher = this.watchers.get(leg)
    if (watcher !== undefined) leg.device.unwatch(watcher)
    this.watchers.delete(leg)
  }

  /** Reconsiders a leg that may have come back, or with which the volume may be able to start. */
  look(leg: Leg): void {
    if (!this.legs.includes(leg)) return
    if (this.leaving.has(leg) && leg.device.usable) this.hooks.onLeaving(leg)
    if (this.word === 'running') this.hooks.onReturn(leg)
    else this.lookAgain()
  }

  /** Tries to start the volume, if it waits for that. */
  lookAgain(): void {
    if (this.word === 'waiting' || this.word === 'suspended') this.hooks.onWaiting()
  }

  submit(request: Request): void {
    if (this.word !== 'running') {
      if (this.told !== null && this.holding) this.park(request)
      else request.fail(this.unavailable())
    } else if (isQuestion(request)) {
      if (this.readers.length > 0) this.jobs.beginRead(request, undefined)
      else this.park(request)
    } else if (this.takesChanges && !this.parking.holdsChanges)
      this.jobs.beginChange(request, undefined)
    // Requests that wait came first.
    else this.park(request)
  }

  /** Whether there are legs for the request now. */
  private readonly takes = (request: Request): boolean =>
    isQuestion(request) ? this.readers.length > 0 : this.takesChanges

  private get takesChanges(): boolean {
    return !this.jobs.quieted && this.inSync.length >= this.minInSync
  }

  /** Whether requests are parked while the volume does not run. */
  private get holding(): boolean {
    return this.word === 'suspended' || this.word === 'starting'
  }

  /** Regroups the legs after some were added or removed, or how well they are has changed. */
  regroup(): void {
    const { legs, minInSync } = this
    if (isOver(this.run)) this.regrouped()
    else this.membership.tell({ kind: 'legs', legs, minInSync })
  }

  /** Takes over the groups that the rules have made. */
  regrouped(): void {
    this.readable = this.run.readable.toSorted((one, other) => one.tier - other.tier)
    this.readers = this.readable.filter((leg) => leg.tier === this.readable[0]!.tier)
    if (this.running && this.parking.holds(this.takes)) this.unparkLater()
    announce(this)
  }

  /** Why requests wait. */
  get heldUpBy(): string {
    if (this.jobs.quieted) return 'the volume is being changed'
    if (!this.running) return this.reason
    return `${this.inSync.length} legs in sync, ${this.minInSync} are needed`
  }

  /** Parks a request until there are legs for it; `deadline` if it has waited before. */
  park(request: Request, deadline?: number): void {
    // Bounds hold unless nothing is wrong: a command is no reason to fail requests of clients.
    const well = this.jobs.quieted || (this.running ? this.takes(request) : this.growing)
    this.parking.add(request, deadline, well ? 'exceedable' : 'strict')
  }

  /**
   * Carries out the parked requests in order. Those that come meanwhile wait behind them; those
   * that the legs cannot take now keep their places.
   */
  unpark(): void {
    for (let left = this.parking.length; left > 0 && this.running; left--) {
      const entry = this.parking.takeFirst(this.takes)
      if (entry === null) return
      const { request, deadline } = entry
      if (isQuestion(request)) this.jobs.beginRead(request, deadline)
      else this.jobs.beginChange(request, deadline)
    }
    if (this.running && this.parking.holds(this.takes)) this.unparkLater()
  }

  private unparkLater(): void {
    this.clock.defer(() => {
      this.unpark()
    })
  }

  /** Notes why the volume does not run yet. From now on the bounds for parked requests hold. */
  wait(reason: string): void {
    this.growing = false
    this.reason = reason
    announce(this)
  }

  /** Lets a start be tried by an operator's word, though another head had taken over. */
  waitAgain(): void {
    this.word = 'waiting'
  }

  /** Makes the run that is about to begin from the record. */
  bind(record: VolumeRecord): void {
    this.record = record
    this.extentSize = record.extentSize
    this.membership = new Membership(this)
    this.intent = this.membership.intent
    this.run = this.membership.run
  }

  /** Has legs take part from here on. */
  starts(): void {
    this.word = 'starting'
    this.regroup()
  }

  /** Notes the generation of the record that is about to be saved. */
  saves({ generation }: VolumeRecord): void {
    this.unserved = this.word === 'starting' ? generation.id : ''
  }

  /** Serves the volume from here on. */
  runs(): void {
    this.unserved = ''
    this.word = 'running'
    this.ran = true
    this.runningSince = this.clock.now()
    this.reason = ''
    this.intent.started()
    this.regroup()
    this.unpark()
    for (const leg of this.legs) {
      // It may have been detached just before this head, or the volume, stopped.
      if (leg.member!.state === 'detached') this.leaving.add(leg)
      if (!this.inSync.includes(leg)) this.look(leg)
    }
    this.hooks.onGrown()
  }

  /** Runs the verify, which `describe` shows meanwhile. */
  async compareWith(verify: Verify): Promise<VerifyResult> {
    this.verifying = verify
    try {
      return await verify.run()
    } finally {
      this.verifying = null
      announce(this)
    }
  }

  /** Lets the volume grow to so many bytes, whatever the configuration says. */
  allowSize(bytes: number): void {
    this.sizeMax = Math.max(this.sizeMax, bytes)
  }

  /** Tells the host how the volume is, if that has changed. */
  tell(facts: Facts, word: Told['word'], reason: string): void {
    const told = { facts, word, reason }
    if (JSON.stringify(told) === JSON.stringify(this.told)) return
    this.told = told
    this.host!.online(facts, word, reason)
  }

  /** Tells the host that the volume is not served. */
  tellOffline(word: 'offline' | 'failed', code?: Code): void {
    this.told = null
    this.host!.offline(word, this.reason, code)
  }

  /** Ends the run: every leg in sync is lost, or to start `larger`. Requests wait for the next. */
  suspend(reason: string, next: 'same' | 'larger' = 'same'): void {
    if (!this.active) return
    this.remember('start', '', `suspended: ${reason}`)
    // A leg may be there and yet take nothing: no use in starting from it again at once.
    const young = this.clock.now() - this.runningSince < this.settings.legRetryMs
    const starting = this.word === 'starting'
    this.retreat(reason, next)
    if (starting || young) this.tries.later()
    else
      this.clock.defer(() => {
        this.hooks.onWaiting()
      })
  }

  /** Ends the run, or the attempt at one. Requests are parked if the volume was served before. */
  retreat(reason: string, next: 'same' | 'larger' = 'same'): void {
    this.growing = next === 'larger'
    const ended = this.endRun(this.told === null ? 'waiting' : 'suspended', reason)
    // Requests under way came before those that wait already.
    const parked = this.parking.takeAll()
    for (const { request, deadline } of ended) this.park(request!, deadline)
    for (const { request, deadline } of parked) this.park(request, deadline)
    announce(this)
    const { epoch } = this
    this.clock.timer(this.settings.suspendMs, () => {
      if (this.epoch === epoch && this.word === 'suspended') {
        this.word = 'waiting'
        announce(this)
      }
    })
  }

  /** Stops for good, or until an operator starts the volume. Fails all requests. */
  halt(word: 'failed' | 'closed', reason: string, error?: StorageError): void {
    const failure = error ?? new StorageError('UNAVAILABLE', reason, this.path)
    this.growing = false
    const ended = this.endRun(word, reason)
    announce(this)
    for (const { request } of ended) request!.fail(failure)
    this.parking.failAll(failure)
  }

  /** Ends the run and returns the jobs that were under way, in the order they came. */
  private endRun(word: VolumeWord, reason: string): readonly Job[] {
    this.word = word
    this.reason = reason
    this.epoch++
    this.locks = new RangeLock()
    const jobs = this.jobs.endAll()
    for (const resync of this.resyncs.values()) resync.stop(reason)
    if (this.record !== null) {
      this.membership.stop()
      this.marks.stop()
    }
    for (const leg of this.legs) leg.forget()
    this.regrouped()
    for (const leg of this.legs) leg.abandon()
    const { onEnd } = this
    this.onEnd = new Set()
    for (const ended of onEnd) ended()
    return jobs
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.timer(ms, resolve))
  }

  newId(digits: number): string {
    return this.random.bytes(digits / 2).toString('hex')
  }

  unavailable(): StorageError {
    return new StorageError('UNAVAILABLE', `the volume is ${this.word}: ${this.reason}`, this.path)
  }

  /** Adds an entry to the history, which is saved with the next change of the record. */
  remember(kind: HistoryKind, leg: string, text: string, resync?: ResyncSummary): void {
    const subject = leg === '' ? this.path : `${this.path}/${leg}`
    this.log.info({ volume: this.path, leg, ...resync }, `${subject}: ${text}`)
    if (this.record === null) return
    const at = Math.floor(this.clock.wall())
    const what = resync === undefined ? { kind, leg, text } : { kind, leg, text, resync }
    addEntry(this.record, this.settings.historyMax, at, what)
  }
}
