import { pageBytes } from '../layout.ts'
import type { Leg } from '../leg.ts'
import type { Membership } from '../membership.ts'
import { reasonMax, type ResyncSummary } from '../record.ts'
import type { Volume } from '../volume.ts'
import { blockBytesOf } from './blocks.ts'
import { Copy, type Unreadable } from './copy.ts'
import { LockedRange } from './locked.ts'
import { Pace } from './pace.ts'
import { Skim } from './skim.ts'
import { Page, Plan, type Run } from './thin.ts'

interface Piece {
  readonly extent: number
  readonly offset: number
  readonly length: number
  readonly plan: Plan
}

/** Unreadable ranges that the reason of a leg names at most. */
const unreadableToldMax = 8

/**
 * Copies what one leg lacks while clients go on: first the zeroes, which may free space for the
 * rest, then everything else. A few pieces are under way at once, each with its range locked. The
 * bit of an extent is cleared when all of it is copied and the leg missed no write meanwhile.
 * Ranges that no leg in sync can read are retried at growing intervals and hold up nothing else.
 */
export class Resync {
  readonly kind: ResyncSummary['kind']
  readonly cause: string
  private readonly volume: Volume
  private readonly membership: Membership
  private readonly leg: Leg
  private readonly pace: Pace
  private readonly startedAt: number
  private readonly sources = new Set<string>()
  private stopped: string | null = null
  /** Bytes that the leg lacked and now has. */
  private bytesDone = 0
  /** Bytes that were read and written, without those only zeroed. */
  private bytesMoved = 0
  private bytesAtCheckpoint = 0
  private saving: Promise<void> | null = null
  private checkpointAt: number
  /** Number of pieces not done, by extent that is being copied. */
  private readonly left = new Map<number, number>()
  /** What could not be read, by extent; these extents stay among those being copied. */
  private readonly unreadable = new Map<number, Plan[]>()
  private readonly told: Unreadable[] = []
  private retryMs = 0
  /** Ends the pause before unreadable ranges are retried. */
  private wake: () => void = () => undefined
  private readonly queue: Piece[] = []
  private cursor = 0

  constructor(volume: Volume, leg: Leg, kind: ResyncSummary['kind'], cause: string) {
    this.volume = volume
    this.membership = volume.membership
    this.leg = leg
    this.kind = kind
    this.cause = cause
    this.startedAt = volume.clock.now()
    this.checkpointAt = this.startedAt
    this.pace = new Pace(volume, volume.settings.resyncBytesPerSecond)
  }

  /** Copies until the leg lacks nothing. Resolves to false if the resync was stopped first. */
  async run(): Promise<boolean> {
    for (;;) {
      await this.skim()
      const workers = Array.from({ length: this.volume.settings.resyncWindow }, () => this.work())
      await Promise.all(workers)
      if (!this.alive()) return false
      if (this.unreadable.size === 0) return true
      await this.save('now')
      if (this.alive()) await this.rest()
      if (!this.alive()) return false
      this.tryAgain()
    }
  }

  /**
   * Stops, because the leg left or the run ended. What was copied counts as far as it was flushed.
   */
  stop(reason: string): void {
    if (this.stopped !== null) return
    this.stopped = reason
    this.volume.resyncs.delete(this.leg)
    this.volume.remember('resync', this.leg.name, 'resync stopped', this.summary(reason))
    this.wake()
    this.pace.wake()
  }

  /** Call once, when `run` has settled. */
  end(): void {
    this.pace.end()
  }

  summary(outcome: string): ResyncSummary {
    const milliseconds = Math.round(this.volume.clock.now() - this.startedAt)
    const source = [...this.sources].join(', ').slice(0, reasonMax)
    const { kind, cause, bytesMoved } = this
    return { kind, cause, source, bytes: this.bytesDone, bytesMoved, milliseconds, outcome }
  }

  describe(): Record<string, unknown> {
    const bytesLeft = this.leg.dirty?.bytes ?? 0
    const { bytesDone: done, bytesMoved } = this
    const total = done + bytesLeft
    const seconds = Math.max(0.001, (this.volume.clock.now() - this.startedAt) / 1000)
    const bytesPerSecond = Math.round(done / seconds)
    const lost = [...this.unreadable.values()].flat()
    return {
      kind: this.kind,
      cause: this.cause,
      source: [...this.sources].join(', '),
      bytesDone: done,
      bytesMoved,
      bytesLeft,
      bytesUnreadable: lost.reduce((sum, plan) => sum + plan.bytesOf(Page.lost), 0),
      percent: total === 0 ? 100 : Math.floor((1000 * done) / total) / 10,
      bytesPerSecond,
      secondsLeft: bytesPerSecond === 0 ? null : Math.ceil(bytesLeft / bytesPerSecond),
    }
  }

  /** False once the leg has left or the run has ended. */
  alive(): boolean {
    return this.stopped === null
  }

  /** Zeroes what is zero at the source, without reading it: that may free space for the rest. */
  private async skim(): Promise<void> {
    const { volume, leg } = this
    const skim = new Skim(volume, leg, () => this.alive())
    for (let from = 0; this.alive();) {
      await this.pace.before(0)
      if (!this.alive()) return
      const stretch = skim.next(from, (extent) => this.isBusy(extent))
      if (stretch === null) return
      const range = new LockedRange(stretch.from, stretch.to)
      await range.acquire(volume)
      for (const extent of stretch.extents) leg.dirty?.copying.set(extent, false)
      const zero = this.alive() ? await skim.carryOut(stretch, this.sources) : new Set<number>()
      if (this.membership.over()) return
      for (const extent of stretch.extents) {
        const bytes = zero.has(extent) ? (leg.dirty?.bytesOf(extent) ?? 0) : 0
        const outcome = zero.has(extent) ? 'copied' : 'left'
        if (this.extentDone(extent, outcome)) this.bytesDone += bytes
      }
      range.release(volume)
      from = stretch.extents.at(-1)! + 1
      await this.save('if-due')
    }
  }

  private async work(): Promise<void> {
    for (let piece = this.next(); piece !== null; piece = this.next()) {
      await this.pace.before(piece.length)
      if (!this.alive()) break
      await this.copy(piece)
      await this.save('if-due')
    }
  }

  /** The next piece to copy, null when all are done or under way. */
  private next(): Piece | null {
    while (this.queue.length === 0) if (!this.nextExtent()) return null
    return this.queue.shift()!
  }

  private nextExtent(): boolean {
    const { dirty } = this.leg
    if (dirty === null || !this.alive()) return false
    let extent = this.freeBit(this.cursor)
    if (extent === -1) extent = this.freeBit(0)
    if (extent === -1) return false
    this.cursor = extent + 1
    dirty.copying.set(extent, false)
    const { extentSize, settings, record } = this.volume
    const end = Math.min((extent + 1) * extentSize, record!.dataSize)
    const row = dirty.rowOf(extent)
    const pieces: Piece[] = []
    for (let offset = extent * extentSize; offset < end;) {
      const length = Math.min(settings.resyncChunkBytes, end - offset)
      const plan = new Plan(offset, length, this.lacking(row, offset % extentSize))
      const piece = pieceOf(extent, plan)
      if (piece !== null) pieces.push(piece)
      offset += length
    }
    this.enqueue(extent, pieces)
    return true
  }

  /** Tells which pages are lacking, counted from byte `from` of the extent; null when all are. */
  private lacking(row: Uint8Array | null, from: number): ((page: number) => boolean) | null {
    if (row === null) return null
    const blockBytes = blockBytesOf(this.volume.extentSize)
    return (page) => {
      const block = Math.floor((from + page * pageBytes) / blockBytes)
      return (row[block >> 3]! & (1 << (block & 7))) !== 0
    }
  }

  private enqueue(extent: number, pieces: readonly Piece[]): void {
    this.left.set(extent, pieces.length)
    this.queue.push(...pieces)
    if (pieces.length > 0) return
    this.left.delete(extent)
    this.extentDone(extent, 'copied')
  }

  private freeBit(from: number): number {
    const { bits } = this.leg.dirty!
    let bit = bits.next(from)
    while (bit !== -1 && this.isBusy(bit)) bit = bits.next(bit + 1)
    return bit
  }

  private isBusy(extent: number): boolean {
    return this.left.has(extent) || this.unreadable.has(extent)
  }

  private async copy(piece: Piece): Promise<void> {
    const { volume, leg, sources } = this
    const range = new LockedRange(piece.offset, piece.offset + piece.length)
    await range.acquire(volume)
    const copy = new Copy({ volume, leg, sources, alive: () => this.alive() }, piece.plan)
    const wanted = piece.plan.bytesOf(Page.copy)
    const bounds: Run = { from: piece.offset, to: piece.offset + piece.length }
    const whole = this.alive() && (await copy.run(bounds))
    if (this.membership.over()) return
    this.bytesMoved += copy.bytes
    if (whole) this.bytesDone += wanted - piece.plan.bytesOf(Page.lost)
    this.pace.spent(piece.length, copy.bytes)
    // What was not copied is still lacking: the extent is found again later.
    if (whole) this.noteUnreadable(piece, copy)
    else if (this.alive()) leg.dirty?.copying.set(piece.extent, true)
    this.pieceDone(piece)
    range.release(volume)
  }

  private noteUnreadable(piece: Piece, { plan, unreadable }: Copy): void {
    if (plan.bytesOf(Page.lost) === 0) return
    this.unreadable.set(piece.extent, [...(this.unreadable.get(piece.extent) ?? []), plan])
    for (const one of unreadable) if (this.told.length < unreadableToldMax) this.told.push(one)
  }

  private pieceDone({ extent }: Piece): void {
    const left = this.left.get(extent)! - 1
    this.left.set(extent, left)
    if (left > 0) return
    this.left.delete(extent)
    this.extentDone(extent, 'copied')
  }

  /** Ends the copy of an extent. Returns true if the leg lacks nothing of it now. */
  private extentDone(extent: number, outcome: 'copied' | 'left'): boolean {
    const { dirty } = this.leg
    const latest = this.volume.resyncs.get(this.leg)
    // If the leg is back already, `copying` belongs to a later resync.
    if (dirty === null || (latest !== undefined && latest !== this)) return false
    const missed = dirty.copying.get(extent) === true
    // If the leg missed some of it meanwhile, that is copied again too, not only what was
    // unreadable.
    if (missed) this.unreadable.delete(extent)
    const waits = this.alive() && this.unreadable.has(extent)
    if (waits) return false
    dirty.copying.delete(extent)
    if (!this.alive() || outcome === 'left' || missed) return false
    dirty.copied(extent)
    return true
  }

  /** Reports what cannot be read, then waits before the retry, longer each time. */
  private async rest(): Promise<void> {
    const { volume, leg, told } = this
    const { legRetryMs, legRetryMsMax } = volume.settings
    told.sort((one, other) => one.offset - other.offset)
    const where = told.map(
      ({ leg, length, offset }) => `${length} bytes at ${offset} cannot be read from ${leg}`,
    )
    const reason = `${where.join('; ')}: ${told[0]?.reason ?? ''}`.slice(0, reasonMax)
    if (leg.member!.reason !== reason) {
      leg.member!.reason = reason
      volume.remember('resync', leg.name, `all else is copied, but ${reason}`)
      volume.membership.request('record')
    }
    this.retryMs = Math.min(legRetryMsMax, Math.max(legRetryMs, 2 * this.retryMs))
    await new Promise<void>((resolve) => {
      const timer = volume.clock.timer(this.retryMs, resolve)
      this.wake = () => {
        timer.cancel()
        resolve()
      }
    })
  }

  private tryAgain(): void {
    const { dirty } = this.leg
    this.told.length = 0
    for (const [extent, plans] of this.unreadable) {
      this.unreadable.delete(extent)
      // Its copies may have been lost since: then it is an extent like any other.
      if (dirty?.copying.get(extent) !== false) {
        dirty?.copying.delete(extent)
        continue
      }
      this.enqueue(
        extent,
        plans.map((plan) => pieceOf(extent, plan.lost())!),
      )
    }
  }

  /** Makes durable what was copied: at once, or only if a checkpoint is due. */
  private async save(when: 'now' | 'if-due'): Promise<void> {
    const { volume } = this
    const { resyncCheckpointBytes, resyncCheckpointMs } = volume.settings
    const done = this.bytesDone
    const since = volume.clock.now() - this.checkpointAt
    const bytes = done - this.bytesAtCheckpoint
    const due = bytes >= resyncCheckpointBytes || since >= resyncCheckpointMs
    if (when === 'if-due' && !due) return
    if (bytes === 0 || !this.alive()) return
    this.bytesAtCheckpoint = done
    this.checkpointAt = volume.clock.now()
    this.saving ??= this.makeDurable()
    await this.saving
  }

  private async makeDurable(): Promise<void> {
    await this.membership.ask(this.leg, { kind: 'copied', leg: this.leg, what: 'some' })
    this.saving = null
  }
}

/** The piece from the first to the last page that the plan copies; null when it copies none. */
function pieceOf(extent: number, plan: Plan): Piece | null {
  const runs = plan.runs(Page.copy)
  if (runs.length === 0) return null
  const offset = runs[0]!.from
  return { extent, offset, length: runs.at(-1)!.to - offset, plan }
}
