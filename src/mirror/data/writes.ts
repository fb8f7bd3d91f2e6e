import type { StorageError } from '../../base/errors.ts'
import type { RangeHolder } from '../../base/range-lock.ts'
import { Flag, Operation, Request } from '../../device/request.ts'
import { failed } from '../departure.ts'
import type { LegCaller } from '../leg-caller.ts'
import { zeroBytesMax, type Leg } from '../leg.ts'
import { isPrompt } from '../rules/acknowledgements.ts'
import { begun, failedOnLast, missed } from '../rules/writing.ts'
import type { HotExtent, IntentHolder } from './intent.ts'
import { Job } from './job.ts'

/**
 * One write, or zeroes, on all legs. Zeroes that a leg has to write go out piece by piece.
 *
 *     its range is its own → its extents are in the intent log → a child on every leg
 *     → all answered, or left → the leaving is durable → enough legs have it → acknowledged
 */
export class WriteJob extends Job implements RangeHolder, IntentHolder, LegCaller {
  rangeFrom = 0
  rangeTo = 0
  firstExtent = 0
  lastExtent = 0
  readonly hot: HotExtent[] = []
  private pending = 0
  /** Everything before this byte was handed to the legs. */
  private at = 0
  /** When the job began, on the clock's scale; 0 when latency is not measured. */
  private startedAt = 0

  protected begin(request: Request): void {
    const { volume } = this
    this.rangeFrom = request.offset
    this.rangeTo = request.offset + request.length
    const { extentSize } = volume
    this.firstExtent = Math.floor(this.rangeFrom / extentSize)
    this.lastExtent = Math.floor((this.rangeTo - 1) / extentSize)
    if (volume.latency.wanted) this.startedAt = volume.clock.now()
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

  /** Submits piece after piece for as long as the legs answer at once. */
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
    // The last leg stays, and the client is told: legs that have the write lack what this one has.
    // Mark them now, or one that is being filled could be in sync before the write has settled.
    failedOnLast(volume.run, this)
    this.error ??= error
  }

  private settle(): void {
    const { volume } = this
    volume.intent.exit(this)
    volume.locks.release(this)
    // The release may have let other writes run, and these may have ended the run.
    if (this.over()) return
    if (this.startedAt !== 0) this.measured()
    if (this.error !== null) this.finish()
    else if (isPrompt(volume.run)) this.finish()
    else volume.membership.acknowledge(this)
  }

  private measured(): void {
    const { clock, latency } = this.volume
    latency.measured(clock.now() - this.startedAt)
    this.startedAt = 0
  }

  protected end(): void {
    const { volume, error } = this
    if (error === null && (this.request!.flags & Flag.fua) !== 0) volume.marks.forced()
    volume.jobs.endWrite(this)
  }
}

/**
 * The end of the next piece of zeroes. A leg that has to write them gets short pieces, so that each
 * ends in time.
 */
function endOfZeroes(legs: readonly Leg[], from: number, to: number): number {
  for (const { device } of legs)
    if (!device.facts!.fastZero) return Math.min(to, from + zeroBytesMax)
  return to
}

/** A flush of every leg, acknowledged like a write. */
export class FlushJob extends Job implements LegCaller {
  private pending = 0
  private moment = 0

  protected begin(): void {
    const { volume } = this
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

  protected end(): void {
    this.volume.jobs.endFlush(this)
  }
}
