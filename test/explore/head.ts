import type { StorageError } from '../../src/base/errors.ts'
import { withInSync, type VolumeRecord } from '../../src/mirror/record.ts'
import type { Effect, Event } from '../../src/mirror/rules/effects.ts'
import {
  createRun,
  isPending,
  regroup,
  type MapWork,
  type Run,
} from '../../src/mirror/rules/run.ts'
import { step } from '../../src/mirror/rules/step.ts'
import { rules } from '../../src/mirror/rules/table.ts'
import { Lacks, Log, Set8 } from './books.ts'
import { emptyRecord, numberOf, snapshotOf, type Snapshot } from './codec.ts'
import { stepOf, type Plan } from './plan.ts'
import { extentsOf, HeadLeg, type Job, type Op, type OpKind, type Surroundings } from './model.ts'

const stages = ['in-sync', 'saving', 'handing-over', 'syncing', 'absent', 'detached'] as const
type Groups = Pick<Run<HeadLeg>, 'inSync' | 'writers' | 'absent' | 'keepers' | 'readable'>

/** The shell of a head: carries out what the rules want, as `Volume` does. */
export class Head {
  readonly index: number
  readonly legs: HeadLeg[]
  readonly record: VolumeRecord
  readonly log: Log
  /** Dead, without a run, about to have one, with one, or replaced by a newer head. */
  word: 'dead' | 'idle' | 'claiming' | 'running' | 'halted' = 'idle'
  /** What this process claimed its legs with last; 0 for nothing. */
  claim = 0
  /** The generation of an attempt to start, in which this process never served; 0 for none. */
  unserved = 0
  /** Processes of it that have died. */
  life = 0
  /** Legs that it does not take back. */
  unwanted = 0
  /** What it has decided to start from, and claims its legs for. */
  plan: Plan | null = null
  run: Run<HeadLeg> | null = null
  /** In the order they came. */
  jobs: Job[] = []
  parked: Job[] = []
  /** Legs that are being written the map of `Run.works[0]`; whether all could take it. */
  mapLegs = 0
  mapWhole = true
  /** The record of the round under way. */
  saved: Snapshot | null = null
  /** Every set of legs, by its bits. */
  readonly subsets: readonly (readonly HeadLeg[])[]
  /** Filled whenever a run is read from a packed state. */
  readonly spare: Run<HeadLeg>
  private readonly groups = new Map<number, Groups>()
  private readonly world: Surroundings
  private busy = false

  constructor(index: number, world: Surroundings) {
    const { legs, extents } = world.configuration
    this.index = index
    this.world = world
    this.record = emptyRecord(legs)
    this.legs = this.record.members.map((member, at) => new HeadLeg(at, member))
    this.log = new Log(extents)
    this.subsets = Array.from({ length: 1 << legs }, (_, bits) =>
      this.legs.filter(({ bit }) => (bits & bit) !== 0),
    )
    this.spare = this.createRun()
  }

  /** Sorts the legs of a run that was read by their stages. */
  regroup(run: Run<HeadLeg>): void {
    let key = 0
    for (const { stage, dirty } of this.legs)
      key = key * 16 + stages.indexOf(stage) * 2 + (dirty === null ? 0 : 1)
    const known = this.groups.get(key)
    if (known !== undefined) Object.assign(run, known)
    else {
      regroup(run)
      const { inSync, writers, absent, keepers, readable } = run
      this.groups.set(key, { inSync, writers, absent, keepers, readable })
    }
    run.out = []
  }

  /** A run of its legs, whose stages are set. */
  createRun(): Run<HeadLeg> {
    const { record, log, legs } = this
    const { extents, minInSync } = this.world.configuration
    return createRun<HeadLeg>({
      record,
      log,
      legs,
      minInSync,
      makeLacking: () => new Lacks(extents),
      makeUnflushed: () => new Set8(),
      forEachWrite: (found) => {
        for (const job of this.jobs) if (job.kind === 'write') found(extentsOf(job))
      },
    })
  }

  /** Generations are above the claim, so that whoever sees them claims more. */
  private get floor(): number {
    return Math.max(0, stepOf(this.claim) - 1)
  }

  get extents(): number {
    return this.world.configuration.extents
  }

  /** Hands an event to the rules and carries out what they want. */
  tell(event: Event<HeadLeg>): ReturnType<typeof step> {
    const { run } = this
    if (run === null) return 'without-it'
    const verdict = step(run, event)
    this.drain(run)
    return verdict
  }

  private drain(run: Run<HeadLeg>): void {
    if (this.busy) return
    this.busy = true
    for (;;) {
      while (run.out.length > 0) this.carryOut(run.out.shift()!)
      if (run.word === 'ended' || run.round !== null || !isPending(run)) break
      step(run, { kind: 'turn', generationId: String(this.index), floor: this.floor })
    }
    this.busy = false
  }

  private carryOut(effect: Effect<HeadLeg>): void {
    switch (effect.kind) {
      case 'save':
        this.saved = snapshotOf(withInSync(this.record, effect.joining))
        this.unserved = this.run?.word === 'starting' ? this.saved.generation : 0
        this.submit({ kind: 'save', job: effect.version, snapshot: snapshotOf(this.record) })
        break
      case 'save-base':
        this.saved = { ...this.saved!, base: numberOf(effect.base) }
        this.submit({ kind: 'save', job: effect.version, snapshot: this.saved })
        break
      case 'superblock':
        this.submit({
          ...onLeg('superblock', effect.leg),
          job: effect.version,
          snapshot: this.saved,
        })
        break
      case 'stamp': {
        const snapshot = snapshotOf(this.record)
        // As syncing.
        snapshot.states[effect.leg.index] = 1
        this.submit({ ...onLeg('stamp', effect.leg), snapshot })
        break
      }
      case 'maps':
        this.writeMaps(effect.work)
        break
      case 'flush':
        if (effect.why === 'copied') effect.leg.dirty!.uncovered = effect.leg.dirty!.bits
        this.submit({ ...onLeg('flush', effect.leg), why: effect.why, moment: this.log.moment })
        break
      case 'left':
        this.left(effect.leg)
        break
      case 'logged':
        this.logged()
        break
      case 'cleaned':
        if (effect.moment > 0) this.cleaned(effect.moment)
        break
      case 'release':
        this.acknowledge(effect.id)
        break
      case 'started':
        this.unserved = 0
        this.started()
        break
      case 'lost':
        this.world.tellLoss()
        for (const { covers } of [...this.jobs, ...this.parked]) covers.fill(0)
        break
      case 'suspend':
        this.endRun()
        break
      case 'fenced':
        this.halt()
        break
      case 'short':
      case 'back':
      case 'copy-again':
      case 'copies-saved':
      case 'joining':
      case 'not-back':
      case 'in-sync':
      case 'regrouped':
        break
    }
  }

  submit(op: Partial<Op> & Pick<Op, 'kind'>): void {
    this.world.submit({
      head: this.index,
      leg: 0,
      ghost: 'no',
      job: 0,
      extent: 0,
      value: 0,
      why: 'client',
      moment: 0,
      snapshot: null,
      claim: this.claim,
      ...op,
    })
  }

  /** Writes a map as it is now to every leg that needs it. */
  private writeMaps({ what, then }: Run<HeadLeg>['works'][number]): void {
    const { log } = this
    const run = this.run!
    const legs = what === 'all' ? [then as HeadLeg] : run.keepers
    if (what === 'log') {
      log.writing = log.fresh
      log.fresh = 0
    } else if (what !== 'all' && !this.takePages(what, then)) {
      this.tell({ kind: 'maps', outcome: 'whole' })
      return
    }
    this.mapLegs = 0
    this.mapWhole = true
    const kind = what === 'log' || what === 'all' ? what : 'lacks'
    const value = what === 'log' ? log.bits : this.lacks()
    for (const leg of legs) {
      this.mapLegs |= leg.bit
      this.submit({ ...onLeg(kind, leg), value, extent: what === 'all' ? log.bits : 0 })
    }
  }

  /** Whether what legs lack has to be written. */
  private takePages(what: MapWork['what'], then: unknown): boolean {
    if (what === 'copied') return (then as HeadLeg).dirty!.takeFlushed()
    let any = false
    for (const { dirty } of this.legs) if (dirty?.takeBehind() === true) any = true
    return any
  }

  /** What is on disk of what legs lack, three bits for each. */
  private lacks(): number {
    return this.legs.reduce(
      (all, { dirty, index }) => all | ((dirty?.durable ?? 0) << (3 * index)),
      0,
    )
  }

  /** A leg has the map, or left. */
  mapped(leg: HeadLeg, outcome: 'written' | 'not'): void {
    if ((this.mapLegs & leg.bit) === 0) return
    this.mapLegs &= ~leg.bit
    if (outcome === 'not') this.mapWhole = false
    if (this.mapLegs === 0)
      this.tell({ kind: 'maps', outcome: this.mapWhole ? 'whole' : 'not-all' })
  }

  private left(leg: HeadLeg): void {
    this.world.abandon(this.index, leg.index)
    const { dirty } = leg
    dirty!.copying = 0
    dirty!.missed = 0
    this.mapped(leg, 'not')
    for (const job of [...this.jobs]) {
      if (job.phase !== 'legs' || (job.pending & leg.bit) === 0) continue
      if (job.kind === 'write') rules.missed(leg, extentsOf(job))
      this.answered(job, leg)
    }
    this.grantRanges()
  }

  private logged(): void {
    const { log } = this
    log.durable |= log.writing
    log.writing = 0
    for (const job of [...this.jobs])
      if (job.phase === 'log' && (log.durable & (1 << job.extent)) !== 0) this.toLegs(job)
  }

  private cleaned(moment: number): void {
    const { log } = this
    let gone = 0
    log.forEachIdle(moment, (extent) => (gone |= 1 << extent))
    log.hot &= ~gone
    log.durable &= ~gone
    log.bits &= ~gone
    if (gone !== 0) this.tell({ kind: 'log' })
  }

  private started(): void {
    const { log } = this
    if (log.inherited === 0) return
    log.bits &= ~log.inherited | log.hot
    log.inherited = 0
    this.tell({ kind: 'log' })
  }

  // Requests of clients.

  /** A client asks for something. */
  ask(job: Job): void {
    if (this.run === null || rules.mustPark(this.run, this.parked.length)) this.parked.push(job)
    else this.begin(job)
  }

  /** What waits is carried out, if it can be. */
  unpark(): void {
    while (this.run !== null && this.parked.length > 0 && !rules.mustPark(this.run, 0))
      this.begin(this.parked.shift()!)
  }

  private begin(job: Job): void {
    this.jobs.push(job)
    if (job.kind === 'flush') this.toLegs(job)
    else if (this.isLocked(job)) job.phase = 'range'
    else this.enter(job)
  }

  /** Whether a write before it, or a copy, has the extent. */
  private isLocked(job: Job): boolean {
    const bit = 1 << job.extent
    if (this.legs.some(({ dirty }) => dirty !== null && (dirty.copying & bit) !== 0)) return true
    const before = this.jobs.slice(0, this.jobs.indexOf(job))
    return before.some(
      ({ kind, extent, phase }) => kind === 'write' && extent === job.extent && phase !== 'settled',
    )
  }

  /** Whether anybody has the extent, or waits for it. */
  isTaken(extent: number): boolean {
    const bit = 1 << extent
    return (
      this.legs.some(({ dirty }) => dirty !== null && (dirty.copying & bit) !== 0) ||
      this.jobs.some(
        (job) => job.kind === 'write' && job.extent === extent && job.phase !== 'settled',
      )
    )
  }

  grantRanges(): void {
    for (const job of [...this.jobs])
      if (job.phase === 'range' && !this.isLocked(job)) this.enter(job)
  }

  private enter(job: Job): void {
    job.phase = 'log'
    if (this.log.enter(job.extent)) this.toLegs(job)
    else this.tell({ kind: 'log' })
  }

  private toLegs(job: Job): void {
    const { run } = this
    if (run === null || !this.jobs.includes(job)) return
    job.phase = 'legs'
    job.moment = this.log.moment
    if (job.kind === 'write') rules.begun(run, extentsOf(job))
    job.pending = 0
    for (const leg of run.writers) job.pending |= leg.bit
    const { kind, id, extent, value, moment } = job
    for (const leg of run.writers)
      this.submit({ ...onLeg(kind, leg), job: id, extent, value, moment })
  }

  /** The leg has answered the request, or left. */
  answered(job: Job, leg: HeadLeg): void {
    if ((job.pending & leg.bit) === 0) return
    job.pending &= ~leg.bit
    if (job.pending !== 0 || !this.jobs.includes(job)) return
    job.phase = 'settled'
    if (job.kind === 'write') this.log.exit(job.extent)
    if (job.failed) this.end(job)
    else this.tell({ kind: 'settled', id: job.id })
    this.grantRanges()
  }

  /** The leg has failed it. */
  refused(job: Job, leg: HeadLeg, code: StorageError['code']): void {
    const error = { code, message: 'failed' }
    const { kind } = job
    const verdict =
      kind === 'flush'
        ? this.tell({ kind: 'flushed', leg, why: 'client', moment: 0, error })
        : this.tell({ kind: 'failed', leg, work: 'write', error })
    if (this.run === null || !this.jobs.includes(job)) return
    if (verdict === 'tell-client') {
      if (kind === 'write') rules.failedOnLast(this.run, extentsOf(job))
      job.failed = true
    } else if (kind === 'write') rules.missed(leg, extentsOf(job))
    this.answered(job, leg)
  }

  private acknowledge(id: number): void {
    const job = this.jobs.find((one) => one.id === id)
    if (job === undefined) return
    this.jobs = this.jobs.filter((one) => one !== job)
    this.world.acknowledged(job, this.index)
  }

  private end(job: Job): void {
    this.jobs = this.jobs.filter((one) => one !== job)
    this.world.failed(job)
  }

  /** Requests wait for the next run. */
  endRun(): void {
    this.word = 'idle'
    for (const { index } of this.legs) this.world.abandon(this.index, index)
    this.world.abandonSave(this.index)
    for (const job of this.jobs) job.failed = false
    this.parked = [...this.jobs, ...this.parked]
    this.jobs = []
    this.forget()
  }

  /** A newer head has the legs. */
  halt(): void {
    this.endRun()
    this.word = 'halted'
    this.parked = []
  }

  /** The process is gone. One that is there and has not started yet can do all that none can. */
  die(): void {
    this.word = this.world.configuration.reduce ? 'idle' : 'dead'
    this.jobs = []
    this.parked = []
    this.claim = this.unserved = 0
    this.life = Math.min(3, this.life + 1)
    this.forget()
  }

  /** Nothing is left of a run. */
  forget(): void {
    this.run = this.plan = null
    this.unwanted = this.mapLegs = 0
    for (const leg of this.legs) leg.clear()
    this.log.clear()
    this.mapWhole = true
    this.saved = null
  }
}

function onLeg<K extends OpKind>(kind: K, { index }: HeadLeg): { kind: K; leg: number } {
  return { kind, leg: index }
}
