import { empty } from '../base/empty.ts'
import { StorageError, systemError } from '../base/errors.ts'
import { blockGeometryOf, BlockSet } from './data/blocks.ts'
import { DirtyMap } from './data/dirty-map.ts'
import { writeWork } from './data/dirty.ts'
import { flushed, flushedCopies } from './data/flushing.ts'
import { IntentLog } from './data/intent.ts'
import type { LockedRange } from './data/locked.ts'
import type { FlushJob, WriteJob } from './data/writes.ts'
import { within } from './deadline.ts'
import { backOff, noteSince } from './departure.ts'
import type { Leg } from './leg.ts'
import { withInSync, withMarkOf, type Member, type VolumeRecord } from './record.ts'
import { isBack, isWhole } from './returning.ts'
import type { Verdict } from './rules/departures.ts'
import type { Effect, Event, FlushReason, LegError } from './rules/effects.ts'
import { createRun, isOver, isPending, mayShowInSync, type MapWork, type Run } from './rules/run.ts'
import { step } from './rules/step.ts'
import { format } from './start/create.ts'
import type { Volume } from './volume.ts'

/** The effects of the rules on a leg that returns. */
type ReturnEffect = Extract<
  Effect<Leg>,
  { kind: 'stamp' | 'back' | 'joining' | 'copy-again' | 'copies-saved' | 'not-back' }
>

type EffectOf<K extends Effect['kind']> = Extract<Effect<Leg>, { readonly kind: K }>

/** Entries of the history in a superblock at most; the head's own record has all. */
const superblockEntriesMax = 16
const saveRetryMs = 500

/** What becomes of a leg; an error if it could not come back. */
export type Outcome = 'back' | 'joining' | 'copy-again' | 'copies-saved' | 'left' | LegError

/**
 * The shell of the rules for one run: hands them events, and carries out their effects in order.
 * Outcomes go back to them, to the run that they belong to.
 */
export class Membership {
  readonly run: Run<Leg>
  readonly intent: IntentLog
  /** Ranges that are being rewritten on a leg that could not read them. */
  readonly repairs = new Set<LockedRange>()
  private readonly volume: Volume
  /** What waits, by number: requests that have settled, and procedures below zero. */
  private readonly waiting = new Map<number, { durable: () => void }>()
  private procedures = 0
  /** Procedures that wait for what becomes of a leg. */
  private readonly asking = new Map<Leg, (outcome: Outcome) => void>()
  private carrying = false
  private whenStarted: () => void = () => undefined
  private turning = false
  /** The record as superblocks get it in this round. */
  private saved: VolumeRecord | null = null

  constructor(volume: Volume) {
    this.volume = volume
    this.intent = new IntentLog(volume, this)
    this.run = createRun<Leg>({
      record: volume.record!,
      log: this.intent,
      legs: volume.legs,
      minInSync: volume.minInSync,
      makeLacking: () => new DirtyMap(blockGeometryOf(volume)),
      makeUnflushed: () => new BlockSet(blockGeometryOf(volume)),
      forEachWrite: (found) => {
        volume.jobs.forEachWrite(found)
      },
    })
    empty(this.run.out)
  }

  /** Whether the run has ended: what began in it goes no further. */
  over(): boolean {
    return isOver(this.run)
  }

  /** Whether a change was requested that is not durable yet. */
  get pending(): boolean {
    return isPending(this.run)
  }

  /** Hands the event to the rules and carries out their effects. */
  tell(event: Event<Leg>): Verdict {
    const verdict = step(this.run, event)
    this.carryOut()
    return verdict
  }

  /** The record was changed; `members`: and with it which legs are in sync. */
  request(what: 'record' | 'members'): void {
    this.tell({ kind: 'changed', what })
  }

  /** Calls `durable` when the request may be acknowledged; never if the run ends. */
  acknowledge(job: WriteJob | FlushJob): void {
    this.waiting.set(job.order, job)
    this.tell({ kind: 'settled', id: job.order })
  }

  /** Forgets the request, which is given up. */
  forget(job: WriteJob | FlushJob): void {
    this.waiting.delete(job.order)
  }

  /** Resolves when everything requested by now is durable, or the run has ended. */
  settled(): Promise<void> {
    return this.pending ? this.procedure((id) => ({ kind: 'wait', id })) : Promise.resolve()
  }

  /** Resolves when the maps on disk say what is known by now, or when the run has ended. */
  written(what: 'log' | 'lacking'): Promise<void> {
    return this.procedure((id) => ({ kind: 'write', what, id }))
  }

  /** Carries out `action` while no map is being written; not at all if the run ends before. */
  async withMaps(action: () => Promise<void>): Promise<void> {
    await this.procedure((id) => ({ kind: 'write', what: 'held', id }))
    if (this.over()) return
    try {
      await action()
    } finally {
      this.tell({ kind: 'maps', outcome: 'whole' })
    }
  }

  /** Resolves to true when the volume may be served, to false if the run has ended before. */
  async start(what: 'record' | 'members'): Promise<boolean> {
    if (this.over()) return false
    await new Promise<void>((resolve) => {
      this.whenStarted = resolve
      this.tell({ kind: 'start', what })
    })
    return !this.over()
  }

  /** Tells what has happened to a leg. Resolves to what becomes of it then. */
  ask(leg: Leg, event: Extract<Event<Leg>, { kind: 'return' | 'copied' }>): Promise<Outcome> {
    return new Promise((resolve) => {
      this.asking.set(leg, resolve)
      this.tell(event)
      // The leg left before the rules could hear of it.
      if (leg.coming === null && leg.finishing === null) this.answer(leg, 'left')
    })
  }

  private answer(leg: Leg, outcome: Outcome): void {
    this.asking.get(leg)?.(outcome)
    this.asking.delete(leg)
  }

  /** Flushes a leg for the mirror. Resolves to the error, once it is decided what becomes of it. */
  async flush(leg: Leg, why: FlushReason | 'client'): Promise<StorageError | null> {
    const { moment } = this.intent
    if (why === 'copied') leg.dirty!.beginFlush()
    const error = await (why === 'copied' ? flushedCopies(this.volume, leg) : flushed(leg))
    const marks = why === 'clean' || why === 'copied'
    if (error === null && marks && !(await this.isMarked(leg, moment))) return null
    this.tell({ kind: 'flushed', leg, why, moment, error })
    return error
  }

  /** Marks the leg, so that a put-back to before this shows. False if that failed, and it left. */
  private isMarked(leg: Leg, moment: number): Promise<boolean> {
    const { marks } = this.volume
    return marks.renewOn(leg, moment).then(
      () => true,
      () => false,
    )
  }

  /** Resolves when the rules release what the event names, or the run has ended. */
  private procedure(eventOf: (id: number) => Event<Leg>): Promise<void> {
    if (this.over()) return Promise.resolve()
    return new Promise((resolve) => {
      const id = --this.procedures
      this.waiting.set(id, { durable: resolve })
      this.tell(eventOf(id))
    })
  }

  /** Resolves when all of the record is durable, so that a leg may get it, or the run has ended. */
  async quiet(): Promise<void> {
    while (this.pending && !this.over()) await this.settled()
  }

  /** Ends the run, and every wait that is not for a request. */
  stop(): void {
    this.tell({ kind: 'ended' })
    empty(this.run.out)
    this.intent.stop()
    this.whenStarted()
    for (const leg of this.asking.keys()) this.answer(leg, 'left')
    for (const [id, { durable }] of this.waiting) if (id < 0) durable()
    this.waiting.clear()
  }

  private carryOut(): void {
    if (this.carrying) return
    this.carrying = true
    try {
      for (let effect = this.next(); effect !== undefined; effect = this.next()) this.act(effect)
    } finally {
      this.carrying = false
    }
    if (this.run.round === null && this.pending && !this.over()) this.turn()
  }

  private next(): Effect<Leg> | undefined {
    return this.run.out.shift()
  }

  /** Several legs that fail in one turn of the loop are one change. */
  private turn(): void {
    if (this.turning) return
    this.turning = true
    void Promise.resolve().then(() => {
      this.turning = false
      const { volume } = this
      if (this.over()) return
      this.tell({ kind: 'turn', generationId: volume.newId(16), floor: volume.head.counterFloor })
    })
  }

  private act(effect: Effect<Leg>): void {
    const { volume } = this
    switch (effect.kind) {
      case 'save':
        void this.save(effect)
        break
      case 'save-base':
        void this.saveBase(effect)
        break
      case 'superblock':
        void this.writeSuperblock(effect.leg, effect.version)
        break
      case 'maps':
        void this.writeMaps(effect.work)
        break
      case 'flush':
        void this.flush(effect.leg, effect.why)
        break
      case 'logged':
        this.intent.logged()
        break
      case 'cleaned':
        this.intent.cleaned(effect.moment)
        break
      case 'started':
        this.whenStarted()
        break
      case 'left':
        this.left(effect)
        break
      case 'in-sync':
        noteSince(volume, effect.leg, 'syncing')
        effect.leg.backOff.end()
        break
      case 'regrouped':
        volume.regrouped()
        break
      case 'release':
        this.release(effect.id)
        break
      case 'short':
        this.awaitLegs(effect.id)
        break
      case 'lost':
        volume.remember('membership', effect.leg.name, `${effect.reason}, and no other leg has it`)
        this.run.record.bootId = volume.newId(32)
        break
      case 'suspend':
        volume.suspend(effect.reason)
        break
      case 'fenced': {
        const reason = 'a newer head has taken over'
        volume.halt('failed', reason, new StorageError('FENCED', effect.message, volume.path))
        break
      }
      case 'stamp':
      case 'back':
      case 'joining':
      case 'copy-again':
      case 'copies-saved':
      case 'not-back':
        this.goOn(effect)
        break
    }
  }

  private goOn(effect: ReturnEffect): void {
    const { volume } = this
    switch (effect.kind) {
      case 'stamp':
        void this.stamp(effect.leg)
        break
      case 'back':
        isBack(volume, effect)
        this.answer(effect.leg, 'back')
        break
      case 'joining':
        isWhole(volume, effect.leg)
        this.answer(effect.leg, 'joining')
        break
      case 'copy-again':
      case 'copies-saved':
        this.answer(effect.leg, effect.kind)
        break
      case 'not-back':
        this.answer(effect.leg, effect.error ?? 'left')
        break
    }
  }

  private awaitLegs(id: number): void {
    const job = this.waiting.get(id)
    if (job !== undefined) this.volume.jobs.awaitLegs(job as WriteJob | FlushJob)
  }

  private release(id: number): void {
    const waiter = this.waiting.get(id)
    this.waiting.delete(id)
    if (id >= 0) this.volume.short.drop(waiter as WriteJob | FlushJob)
    waiter?.durable()
  }

  private left({ leg, was, state, reason }: EffectOf<'left'>): void {
    const { volume } = this
    noteSince(volume, leg, was)
    volume.remember('membership', leg.name, `left as ${state}: ${reason}`)
    backOff(volume, leg)
    volume.resyncs.get(leg)?.stop(reason)
    leg.abandon()
    this.answer(leg, 'left')
  }

  private async writeMaps(work: MapWork<Leg>): Promise<void> {
    if (work.what === 'held') {
      this.release(work.then as number)
      return
    }
    const whole = await writeWork(this.volume, work)
    this.tell({ kind: 'maps', outcome: whole ? 'whole' : 'not-all' })
  }

  private async save({ version, joining }: EffectOf<'save'>): Promise<void> {
    this.volume.saves(this.run.record)
    const text = JSON.stringify(this.run.record)
    const saved = withInSync(JSON.parse(text) as VolumeRecord, joining)
    if (!(await this.saveHead(text))) return
    this.saved = saved
    this.tell({ kind: 'saved', version })
  }

  private async saveBase({ version, base }: EffectOf<'save-base'>): Promise<void> {
    const saved = { ...this.saved!, base }
    if (!(await this.saveHead(JSON.stringify(saved)))) return
    this.saved = saved
    this.tell({ kind: 'saved', version })
  }

  private async saveHead(text: string): Promise<boolean> {
    const { volume, run } = this
    const deadline = volume.clock.now() + volume.settings.suspendMs
    while (!isOver(run)) {
      try {
        const left = Math.max(0, deadline - volume.clock.now())
        await within(volume, volume.store?.save(volume.key, text), left)
        if (!isOver(run)) return true
        // The run has ended meanwhile: a start that waits may go by what is saved only now.
        volume.lookAgain()
        return false
      } catch (error) {
        volume.log.error(
          { err: error, volume: volume.path },
          `the head of ${volume.path} cannot save its record`,
        )
        // A try without time left would end as one that hangs does, and hide the reason.
        if (volume.clock.now() + saveRetryMs >= deadline) {
          // Nothing was acknowledged since, so a start needs no command once the disk is mended.
          volume.retreat('the state directory cannot be written')
          volume.tries.later()
          return false
        }
        await volume.pause(saveRetryMs)
      }
    }
    return false
  }

  private async stamp(leg: Leg): Promise<void> {
    const record = structuredClone(this.run.record)
    record.members.find(({ id }) => id === leg.member!.id)!.state = 'syncing'
    record.entries = []
    let error: StorageError | null = null
    try {
      if (leg.superblocks.serial === 0) await format(leg, record)
      else await leg.superblocks.write(() => record)
    } catch (cause) {
      error = systemError(cause, 'coming back', leg.device.path)
    }
    this.tell({ kind: 'stamped', leg, error })
  }

  private async writeSuperblock(leg: Leg, version: number): Promise<void> {
    if (this.over()) return
    let error: StorageError | null = null
    const { flushedMoment } = leg
    const saved = this.saved!
    try {
      await leg.superblocks.write(() => {
        // This may have waited for its turn, and the leg may be another head's by now.
        if (this.run.keepers.includes(leg)) return forLeg(saved)
        throw new StorageError('UNAVAILABLE', `${leg.name} left`)
      })
      if (!isOver(this.run)) leg.hasMarked(flushedMoment)
    } catch (cause) {
      error = systemError(cause, 'writing the superblock', leg.device.path)
    }
    this.tell({ kind: 'superblock', leg, version, error })
  }

  /** Whether the record saved last has the leg as its present member. */
  hasSaved({ member }: Leg): boolean {
    return this.saved?.members.some(({ id }) => id === member?.id) === true
  }

  /** The record for a leg's superblock between two rounds. Throws if the leg left. */
  recordFor(leg: Leg): VolumeRecord {
    const { run, saved } = this
    if (saved === null || isOver(run) || !run.writers.includes(leg) || !this.hasSaved(leg))
      throw new StorageError('UNAVAILABLE', `${leg.name} left`)
    const known = new Map(this.volume.legs.map(({ member }) => [member?.id, member]))
    const syncing = mayShowInSync(run, leg) ? '' : leg.member!.id
    const members = saved.members.map((member): Member => {
      const state = member.id === syncing ? 'syncing' : member.state
      return { ...withMarkOf(member, known.get(member.id)), state }
    })
    return forLeg({ ...saved, members })
  }
}

/** The record without the older entries, which the head's own record has. */
function forLeg(saved: VolumeRecord): VolumeRecord {
  return { ...saved, entries: saved.entries.slice(-superblockEntriesMax) }
}
