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

/** Of what cannot be read so much is told by name. */
const unreadableToldMax = 8

/**
 * Copies what one leg lacks, while clients go on: first what became zero, which may make room for
 * the rest, then all else. A few pieces are under way at once, each with its range locked; an
 * extent's bit is cleared when all of it is copied and nothing was missed. What no leg in sync can
 * read is tried again, later and later, and costs nothing else.
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
  /** What was lacking and is not any more; what of that was read and written, not zero. */
  private bytesDone = 0
  private bytesMoved = 0
  private bytesAtCheckpoint = 0
  private saving: Promise<void> | null = null
  private checkpointAt: number
  /** Extents being copied, and the pieces of each that are not done. */
  private readonly left = new Map<number, number>()
  /** What could not be read of an extent, which stays among those being copied. */
  private readonly unreadable = new Map<number, Plan[]>()
  private readonly told: Unreadable[] = []
  private retryMs = 0
  /** Ends the pause before what cannot be read is tried again. */
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

  /** Copies until the leg lacks nothing; false when it left. */
  async run(): Promise<boolean> {
    for (;;) {
      await this.skim()
      const workers = Array.from({ length: this.volume.settings.resyncWindow }, () => this.work())
      await Promise.all(workers)
      if (!this.alive()) return false
      if (this.unreadable.size === 0) return true
      await this.save(true)
      if (this.alive()) await this.rest()
      if (!this.alive()) return false
      this.tryAgain()
    }
  }

  /** The leg left: what was copied counts, as far as it was flushed. */
  stop(reason: string): void {
    if (this.stopped !== null) return
    this.stopped = reason
    this.volume.resyncs.delete(this.leg)
    this.volume.remember('resync', this.leg.name, 'resync stopped', this.summary(reason))
    this.wake()
    this.pace.wake()
  }

  /** Nothing is copied any more. */
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

  /** Whether it goes on: it is stopped when the leg leaves or the run ends. */
  alive(): boolean {
    return this.stopped === null
  }

  /** What is zero at the source is so here without a byte being read: it may make room. */
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
        if (this.extentDone(extent, zero.has(extent))) this.bytesDone += bytes
      }
      range.release(volume)
      from = stretch.extents.at(-1)! + 1
      await this.save()
    }
  }

  private async work(): Promise<void> {
    for (let piece = this.next(); piece !== null; piece = this.next()) {
      await this.pace.before(piece.length)
      if (!this.alive()) break
      await this.copy(piece)
      await this.save()
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

  /** Which pages are lacking, from so far into an extent, null for all. */
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
    this.extentDone(extent, true)
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
    // What was not copied is lacked still, and will be looked for again.
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
    this.extentDone(extent, true)
  }

  /** Whether the leg lacks nothing of it any more. */
  private extentDone(extent: number, copied: boolean): boolean {
    const { dirty } = this.leg
    const latest = this.volume.resyncs.get(this.leg)
    // What is noted there is a later resync's, if the leg is back already.
    if (dirty === null || (latest !== undefined && latest !== this)) return false
    const missed = dirty.copying.get(extent) === true
    // What was lost of it meanwhile has to be copied again, not only what cannot be read.
    if (missed) this.unreadable.delete(extent)
    const waits = this.alive() && this.unreadable.has(extent)
    if (waits) return false
    dirty.copying.delete(extent)
    if (!this.alive() || !copied || missed) return false
    dirty.copied(extent)
    return true
  }

  /** Says what cannot be read, and waits longer each time. */
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
      volume.membership.request(false)
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
      // Its copy may have been lost since: then it is an extent like others.
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

  /** Makes durable what was copied, from time to time, or now. */
  private async save(now = false): Promise<void> {
    const { volume } = this
    const { resyncCheckpointBytes, resyncCheckpointMs } = volume.settings
    const done = this.bytesDone
    const since = volume.clock.now() - this.checkpointAt
    const bytes = done - this.bytesAtCheckpoint
    if (!now && bytes < resyncCheckpointBytes && since < resyncCheckpointMs) return
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

/** From the first to the last page of a plan that is to be copied; null when there is none. */
function pieceOf(extent: number, plan: Plan): Piece | null {
  const runs = plan.runs(Page.copy)
  if (runs.length === 0) return null
  const offset = runs[0]!.from
  return { extent, offset, length: runs.at(-1)!.to - offset, plan }
}
