import type { RangeHolder } from '../base/range-lock.ts'
import type { StorageError } from '../base/errors.ts'
import { Flag, Operation, Request } from '../device/request.ts'
import { failed } from './departure.ts'
import type { HotExtent, IntentHolder } from './intent.ts'
import type { LegCaller } from './leg-caller.ts'
import { zeroBytesMax, type Leg } from './leg.ts'
import { isPrompt } from './rules/acknowledgements.ts'
import { isOver, noRun } from './rules/run.ts'
import { begun, failedOnLast, missed } from './rules/writing.ts'
import type { Volume } from './volume.ts'

/** A request on its way through the mirror; `jobs` of the volume are all that are under way. */
export interface Job {
  readonly request: Request | null
  /** Place in `Volume.jobs`. */
  place: number
  /** Rises with every job: the order they came in. */
  order: number
  /** When the request fails, if it waited before: however often it waits again. */
  deadline: number | undefined
}

/**
 * One write, or zeroes, on all legs. Zeroes that a leg has to write go out piece by piece.
 *
 *     its range is its own → its extents are in the intent log → a child on every leg
 *     → all answered, or left → the leaving is durable → enough legs have it → acknowledged
 */
export class WriteJob implements Job, RangeHolder, IntentHolder, LegCaller {
  request: Request | null = null
  place = 0
  order = 0
  deadline: number | undefined = undefined
  rangeFrom = 0
  rangeTo = 0
  firstExtent = 0
  lastExtent = 0
  readonly hot: HotExtent[] = []
  private readonly volume: Volume
  private run = noRun<Leg>()
  private pending = 0
  /** Up to here it was handed to the legs. */
  private at = 0
  private error: StorageError | null = null
  private startedAt = 0

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Whether the run in which it began has ended. */
  private over(): boolean {
    return isOver(this.run)
  }

  start(request: Request): void {
    const { volume } = this
    this.request = request
    this.run = volume.run
    this.error = null
    this.rangeFrom = request.offset
    this.rangeTo = request.offset + request.length
    const { extentSize } = volume
    this.firstExtent = Math.floor(this.rangeFrom / extentSize)
    this.lastExtent = Math.floor((this.rangeTo - 1) / extentSize)
    if (volume.measuring) this.startedAt = volume.clock.now()
    if (volume.locks.acquire(this)) this.granted()
  }

  granted(): void {
    if (!this.over() && this.volume.intent.enter(this)) this.logged()
  }

  logged(): void {
    if (this.over()) return
    this.at = this.rangeFrom
    this.proceed()
  }

  /** Piece after piece, for as long as legs answer at once. */
  private proceed(): void {
    do {
      this.submitPiece()
      if (this.over() || --this.pending > 0) return
    } while (this.wantsMore())
    this.settle()
  }

  private wantsMore(): boolean {
    return this.at < this.rangeTo && this.error === null
  }

  private answered(): void {
    if (--this.pending > 0) return
    if (this.wantsMore()) this.proceed()
    else this.settle()
  }

  /** Hands the write, or the next zeroes, to every leg that takes part; the others will lack it. */
  private submitPiece(): void {
    const { volume } = this
    const { writers } = volume
    const request = this.request!
    const { operation } = request
    const trims = operation === Operation.trim
    const kind = trims ? Operation.writeZeroes : operation
    const from = this.at
    this.at = kind === Operation.write ? this.rangeTo : endOfZeroes(writers, from, this.rangeTo)
    const length = this.at - from
    this.pending = writers.length + 1
    if (volume.run.absent.length > 0) begun(volume.run, this)
    for (const leg of writers) {
      // The answer of the leg before may have made others leave since the loop began.
      if (volume.writers !== writers && this.hasLeft(leg)) continue
      const flags = leg.flagsFor(trims ? request.flags & Flag.fua : request.flags & ~Flag.fastZero)
      const child = Request.take(kind, from, length, flags, leg)
      if (kind === Operation.write) child.share(request)
      leg.submit(child, this)
    }
  }

  private hasLeft(leg: Leg): boolean {
    if (this.over()) return true
    if (this.volume.writers.includes(leg)) return false
    this.markDirty(leg)
    this.pending--
    return true
  }

  /** The leg may lack this write. */
  markDirty(leg: Leg): void {
    missed(leg, this)
  }

  legDone(leg: Leg, child: Request): void {
    const { error } = child
    child.release()
    if (error !== null) this.legFailed(leg, error)
    if (!this.over()) this.answered()
  }

  legLost(leg: Leg): void {
    if (this.over()) return
    this.markDirty(leg)
    this.answered()
  }

  private legFailed(leg: Leg, error: StorageError): void {
    const { volume } = this
    if (this.over()) return
    if (failed(volume, leg, 'write', error)) {
      this.markDirty(leg)
      return
    }
    // The last leg stays: the client is told, and whoever has the write lacks what the leg has.
    // At once, or one that is being filled could be in sync before the write has settled.
    failedOnLast(volume.run, this)
    this.error ??= error
  }

  private settle(): void {
    const { volume } = this
    volume.intent.exit(this)
    volume.locks.release(this)
    // Releasing may have carried out others that ended in the loss of every leg.
    if (this.over()) return
    if (volume.measuring) volume.measured(volume.clock.now() - this.startedAt)
    if (this.error !== null) this.finish()
    else if (isPrompt(volume.run)) this.finish()
    else volume.membership.acknowledge(this)
  }

  durable(): void {
    if (!this.over()) this.finish()
  }

  /** Acknowledges the write, or fails it. */
  private finish(): void {
    const { volume, error } = this
    const request = this.request!
    this.request = null
    volume.endJob(this)
    volume.writeJobs.push(this)
    if (error === null) {
      if ((request.flags & Flag.fua) !== 0) volume.marks.forced()
      request.complete()
    } else request.fail(error)
  }

  /** The request, given up as if it had never begun; this job is not used again. */
  fail(error: StorageError): void {
    this.error = error
    this.finish()
  }
}

/** How far zeroes go at once: where a leg writes them, it must have time for each piece. */
function endOfZeroes(legs: readonly Leg[], from: number, to: number): number {
  for (const { device } of legs)
    if (!device.facts!.fastZero) return Math.min(to, from + zeroBytesMax)
  return to
}

/** A flush: of every leg, acknowledged like a write. */
export class FlushJob implements Job, LegCaller {
  request: Request | null = null
  place = 0
  order = 0
  deadline: number | undefined = undefined
  private readonly volume: Volume
  private run = noRun<Leg>()
  private pending = 0
  private moment = 0
  private error: StorageError | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Whether the run in which it began has ended. */
  private over(): boolean {
    return isOver(this.run)
  }

  start(request: Request): void {
    const { volume } = this
    this.request = request
    this.run = volume.run
    this.error = null
    this.moment = volume.intent.moment
    const { writers } = volume
    this.pending = writers.length + 1
    for (const leg of writers) {
      if (this.over()) return
      const left = volume.writers !== writers && !volume.writers.includes(leg)
      if (left || leg.device.facts!.flush === 'none') this.pending--
      else leg.submit(Request.take(Operation.flush, 0, 0, 0, leg), this)
    }
    if (!this.over() && --this.pending === 0) this.settle()
  }

  legDone(leg: Leg, child: Request): void {
    const { volume } = this
    const { error } = child
    child.release()
    if (this.over()) return
    if (error === null) leg.hasFlushed(this.moment)
    else if (!failed(volume, leg, 'flush', error)) this.error ??= error
    if (!this.over() && --this.pending === 0) this.settle()
  }

  legLost(): void {
    if (!this.over() && --this.pending === 0) this.settle()
  }

  private settle(): void {
    const { volume } = this
    volume.intent.flushed()
    if (this.error !== null || isPrompt(volume.run)) this.finish()
    else volume.membership.acknowledge(this)
  }

  durable(): void {
    if (!this.over()) this.finish()
  }

  /** Fails with the error what waited for more legs. */
  fail(error: StorageError): void {
    this.error = error
    this.finish()
  }

  private finish(): void {
    const { volume, error } = this
    const request = this.request!
    this.request = null
    volume.endJob(this)
    volume.flushJobs.push(this)
    if (error === null) request.complete()
    else request.fail(error)
  }
}
