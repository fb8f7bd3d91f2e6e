import type { Clock, Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { Mutex } from '../base/mutex.ts'
import type { Random } from '../base/random.ts'
import { RangeLock } from '../base/range-lock.ts'
import type { Device, DriverHost } from '../device/device.ts'
import { Operation, type Request } from '../device/request.ts'
import { announce, type Told, type VolumeWord } from './announce.ts'
import { legChanged } from './departure.ts'
import { HeadMemory } from './head-memory.ts'
import { IntentLog } from './intent.ts'
import { extentCount, type Geometry } from './layout.ts'
import { addEntry } from './ledger.ts'
import { Leg } from './leg.ts'
import { Looking } from './looking.ts'
import { Marks } from './marks.ts'
import { Membership } from './membership.ts'
import { isQuestion, Parking } from './parking.ts'
import { ReadJob } from './reads.ts'
import type { HistoryKind, ResyncSummary, VolumeRecord } from './record.ts'
import type { Resync } from './resync.ts'
import { isOver, noRun as createNoRun, type Run } from './rules/run.ts'
import { mirrorDefaults, type MirrorOptions, type MirrorSettings } from './settings.ts'
import type { StateStore } from '../base/store.ts'
import type { Verify } from './verify.ts'
import { ShortJobs } from './short.ts'
import { Watchdog } from './watchdog.ts'
import { FlushJob, WriteJob, type Job } from './writes.ts'

const noRun = createNoRun<Leg>()

/**
 * Everything that the parts of a mirror share. From one start to the loss of every leg is one run:
 * all that it knows is its `Membership`, and what comes late for an ended one is dropped there.
 */
export class Volume {
  readonly settings: MirrorSettings
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly store: StateStore | null
  readonly key: string
  readonly parking: Parking
  /** Changes of what the volume is made of, one after the other. */
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
  /** Bytes up to which it grows. */
  sizeMax: number
  /** Counts the ends of runs and of attempts at one, which have no run yet. */
  epoch = 0
  record: VolumeRecord | null = null
  extentSize = 0
  /** The highest generation seen on any leg: the next one is above it. */
  counterFloor = 0
  /** Id of the generation of a start that failed: nothing was served in it. */
  unserved = ''
  /** What the legs were claimed with. */
  claimed = 0
  readonly head = new HeadMemory()

  /** Replaced at every start. */
  locks = new RangeLock()
  membership!: Membership
  intent!: IntentLog

  /** What the rules know of the run. */
  run: Run<Leg> = noRun
  /** In sync, and durably so, the best first; and the best of them. */
  readable: readonly Leg[] = []
  readers: readonly Leg[] = []

  readonly writeJobs: WriteJob[] = []
  readonly flushJobs: FlushJob[] = []
  readonly readJobs: ReadJob[] = []
  readonly resyncs = new Map<Leg, Resync>()
  /** Called when the run ends, by those who wait for something that will not come. */
  onEnd = new Set<() => void>()
  /** A resync or verify wants to know how long clients' writes take. */
  measuring = false
  /** Milliseconds, smoothed. */
  latencyMs = 0
  /** Legs that an operation keeps from coming back by themselves. */
  readonly held = new Set<Leg>()
  /** Legs that were removed, and are claimed until nothing is under way on them. */
  readonly leaving = new Set<Leg>()
  host: DriverHost | null = null
  told: Told | null = null
  /** Whether clients were ever served, and since when they are. */
  ran = false
  runningSince = 0
  verifying: Verify | null = null
  /** Calls for a look at the legs; set by the mirror. */
  onWaiting: () => void = () => undefined
  onReturn: (leg: Leg) => void = () => undefined
  onGrown: () => void = () => undefined

  private jobs: Job[] = []
  private order = 0
  /** Writes and flushes under way. */
  private mutations = 0
  private gated = false
  /** Whether it is suspended only to start anew, larger. */
  growing = false
  private drained: (() => void) | null = null
  private retry: Timer | null = null
  private readonly watchers = new Map<Leg, () => void>()

  constructor(options: MirrorOptions) {
    this.settings = { ...mirrorDefaults, ...options.settings }
    this.sizeMax = this.settings.size ?? Infinity
    this.clock = options.clock
    this.random = options.random
    this.log = options.log
    this.store = options.store
    this.key = options.key
    const { suspendRequestsMax, suspendBytesMax, suspendMs } = this.settings
    const limits = {
      requestsMax: suspendRequestsMax,
      bytesMax: suspendBytesMax,
      waitMs: suspendMs,
    }
    this.parking = new Parking(this.clock, limits, options.key)
    for (const { name, device, readLast } of options.legs) this.addLeg(name, device, readLast)
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

  /** Who is in sync; who gets writes. */
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

  addLeg(name: string, device: Device, readLast = false): Leg {
    const leg = new Leg(name, device, readLast)
    leg.onBusy = () => {
      this.watchdog.wake()
    }
    leg.onQuiet = () => {
      this.look(leg)
    }
    const watcher = (): void => {
      legChanged(this, leg)
    }
    this.legs = [...this.legs, leg]
    this.watchers.set(leg, watcher)
    device.watch(watcher)
    return leg
  }

  dropLeg(leg: Leg): void {
    this.legs = this.legs.filter((one) => one !== leg)
    this.unwatch(leg)
  }

  unwatch(leg: Leg): void {
    const watcher = this.watchers.get(leg)
    if (watcher !== undefined) leg.device.unwatch(watcher)
    this.watchers.delete(leg)
  }

  /** The leg may have come back, or the volume may be able to start. */
  look(leg: Leg): void {
    if (!this.legs.includes(leg)) return
    if (this.word === 'running') this.onReturn(leg)
    else this.lookAgain()
  }

  /** The volume may be able to start. */
  lookAgain(): void {
    if (this.word === 'waiting' || this.word === 'suspended') this.onWaiting()
  }

  submit(request: Request): void {
    if (this.word !== 'running') {
      if (this.told !== null && this.holding) this.keep(request)
      else request.fail(this.unavailable())
      return
    }
    // What waits already came first.
    if (this.takes(request) && (isQuestion(request) || !this.parking.holdsChanges))
      this.carryOut(request, undefined)
    else this.park(request, undefined)
  }

  /** Whether there are legs for it now. */
  private readonly takes = (request: Request): boolean =>
    isQuestion(request)
      ? this.readers.length > 0
      : !this.gated && this.inSync.length >= this.minInSync

  private carryOut(request: Request, deadline: number | undefined): void {
    const job = this.jobFor(request)
    if (!(job instanceof ReadJob)) this.mutations++
    job.place = this.jobs.length
    job.order = this.order++
    job.deadline = deadline
    this.jobs.push(job)
    job.start(request)
  }

  private jobFor(request: Request): ReadJob | FlushJob | WriteJob {
    if (isQuestion(request)) return this.readJobs.pop() ?? new ReadJob(this)
    if (request.operation === Operation.flush) return this.flushJobs.pop() ?? new FlushJob(this)
    return this.writeJobs.pop() ?? new WriteJob(this)
  }

  endJob(job: Job): void {
    const last = this.jobs.pop()!
    if (last !== job) {
      this.jobs[job.place] = last
      last.place = job.place
    }
    if (job instanceof ReadJob) return
    this.mutations--
    this.maybeDrained()
  }

  /** Whether requests are kept although no leg can take them. */
  private get holding(): boolean {
    return this.word === 'suspended' || this.word === 'starting'
  }

  /** Carries `action` out while no write or flush is under way; those that come wait. */
  async quiet<T>(action: () => Promise<T>): Promise<T> {
    this.gated = true
    this.parking.reason = 'the volume is being changed'
    try {
      if (this.busy > 0) await new Promise<void>((resolve) => (this.drained = resolve))
      return await action()
    } finally {
      this.drained = null
      this.gated = false
      this.unpark()
    }
  }

  /** Writes and flushes under way that do not only wait for more legs to be in sync. */
  private get busy(): number {
    return this.mutations - this.short.length
  }

  /** Whether a write is under way, or waits for more legs, a record or a leg before its answer. */
  get isWriting(): boolean {
    return this.jobs.some((job) => job instanceof WriteJob)
  }

  private maybeDrained(): void {
    if (this.drained !== null && this.busy === 0) this.drained()
  }

  /** Calls back with every write that was not acknowledged or failed yet. */
  forEachWrite(found: (write: WriteJob) => void): void {
    for (const job of this.jobs) if (job instanceof WriteJob) found(job)
  }

  /** A write or flush has settled, but fewer legs have it than must. */
  awaitLegs(job: WriteJob | FlushJob): void {
    this.short.add(job)
    this.maybeDrained()
  }

  /** Legs were added or removed, or how well they are has changed. */
  regroup(): void {
    const { legs, minInSync } = this
    if (isOver(this.run)) this.regrouped()
    else this.membership.tell({ kind: 'legs', legs, minInSync })
  }

  /** The rules sorted the legs anew. */
  regrouped(): void {
    this.readable = this.run.readable.toSorted((one, other) => one.tier - other.tier)
    this.readers = this.readable.filter((leg) => leg.tier === this.readable[0]!.tier)
    if (this.running && this.parking.holds(this.takes)) this.unparkLater()
    announce(this)
  }

  /** Keeps a request until there are legs for it; `deadline` if it has waited before. */
  park(request: Request, deadline: number | undefined): void {
    if (!this.gated && !this.takes(request))
      this.parking.reason = `${this.inSync.length} legs in sync, ${this.minInSync} are needed`
    this.keep(request, deadline)
  }

  /** Within limits, unless nothing is wrong: a command is no reason to fail what clients ask. */
  private keep(request: Request, deadline?: number): void {
    const well = this.gated || (this.running ? this.takes(request) : this.growing)
    this.parking.add(request, deadline, !well)
  }

  /**
   * Carries out what waits, one after the other. What comes meanwhile waits behind it; of what the
   * legs cannot take now the places stay as they are.
   */
  unpark(): void {
    for (let left = this.parking.length; left > 0 && this.running; left--) {
      const entry = this.parking.takeFirst(this.takes)
      if (entry === null) return
      this.carryOut(entry.request, entry.deadline)
    }
    if (this.running && this.parking.holds(this.takes)) this.unparkLater()
  }

  private unparkLater(): void {
    this.clock.defer(() => {
      this.unpark()
    })
  }

  /** Every leg in sync is lost: requests wait until one may be started from again. */
  suspend(reason: string, growing = false): void {
    if (!this.active) return
    this.remember('start', '', `suspended: ${reason}`)
    // It may be there and yet take nothing: to start from it again at once helps nobody.
    const young = this.clock.now() - this.runningSince < this.settings.legRetryMs
    const starting = this.word === 'starting'
    this.retreat(reason, growing)
    if (starting || young) this.retryLater()
    else
      this.clock.defer(() => {
        this.onWaiting()
      })
  }

  /** Tries to start again after a while; those who ask for it meanwhile wait for the same. */
  retryLater(): void {
    this.retry ??= this.clock.timer(this.settings.legRetryMs, () => {
      this.retry = null
      this.onWaiting()
    })
  }

  /** Ends the run, or the attempt at one; requests are kept if they were taken before. */
  retreat(reason: string, growing = false): void {
    this.growing = growing
    const ended = this.endRun(this.told === null ? 'waiting' : 'suspended', reason)
    this.parking.reason = reason
    // What was under way came before what waits already.
    const parked = this.parking.takeAll()
    for (const { request, deadline } of ended) this.keep(request!, deadline)
    for (const { request, deadline } of parked) this.keep(request, deadline)
    announce(this)
    const { epoch } = this
    this.clock.timer(this.settings.suspendMs, () => {
      if (this.epoch === epoch && this.word === 'suspended') {
        this.word = 'waiting'
        announce(this)
      }
    })
  }

  /** Stops for good, until an operator says otherwise. */
  halt(word: 'failed' | 'closed', reason: string, error?: StorageError): void {
    const failure = error ?? new StorageError('UNAVAILABLE', reason, this.path)
    this.growing = false
    const ended = this.endRun(word, reason)
    announce(this)
    for (const { request } of ended) request!.fail(failure)
    this.parking.failAll(failure)
  }

  /** What was under way, in the order it came. */
  private endRun(word: VolumeWord, reason: string): readonly Job[] {
    this.word = word
    this.reason = reason
    this.epoch++
    this.locks = new RangeLock()
    const jobs = this.jobs.toSorted((one, other) => one.order - other.order)
    this.jobs = []
    this.mutations = 0
    this.short.clear()
    for (const resync of this.resyncs.values()) resync.stop(reason)
    if (this.record !== null) {
      this.membership.stop()
      this.marks.stop()
    }
    for (const leg of this.legs) {
      leg.stage = 'absent'
      leg.dirty = null
      leg.unflushed = null
    }
    this.regrouped()
    for (const leg of this.legs) {
      leg.abandon()
      leg.reads = 0
    }
    if (this.drained !== null) this.drained()
    const { onEnd } = this
    this.onEnd = new Set()
    for (const ended of onEnd) ended()
    return jobs
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.timer(ms, resolve))
  }

  measured(ms: number): void {
    this.latencyMs += (ms - this.latencyMs) / 16
  }

  newId(digits: number): string {
    return this.random.bytes(digits / 2).toString('hex')
  }

  unavailable(): StorageError {
    return new StorageError('UNAVAILABLE', `the volume is ${this.word}: ${this.reason}`, this.path)
  }

  /** Adds to the history; it is saved with the next change of the record. */
  remember(kind: HistoryKind, leg: string, text: string, resync?: ResyncSummary): void {
    const subject = leg === '' ? this.path : `${this.path}/${leg}`
    this.log.info({ volume: this.path, leg, ...resync }, `${subject}: ${text}`)
    if (this.record === null) return
    const at = Math.floor(this.clock.wall())
    const what = resync === undefined ? { kind, leg, text } : { kind, leg, text, resync }
    addEntry(this.record, this.settings.historyMax, at, what)
  }
}
