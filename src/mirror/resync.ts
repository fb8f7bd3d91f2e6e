import { StorageError, systemError } from '../base/errors.ts'
import { Operation } from '../device/request.ts'
import { failed, readFailed } from './departure.ts'
import { checkpoint } from './dirty.ts'
import type { Leg } from './leg.ts'
import { LockedRange } from './locked.ts'
import { Pace } from './pace.ts'
import { rewrite } from './reads.ts'
import { reasonMax, type ResyncSummary } from './record.ts'
import type { Volume } from './volume.ts'

interface Piece {
  readonly extent: number
  readonly offset: number
  readonly length: number
}

/**
 * Copies what one leg lacks, while clients go on. A few pieces are under way at once, each with
 * its range locked; an extent's bit is cleared when all of it is copied and nothing was missed.
 */
export class Resync {
  readonly kind: ResyncSummary['kind']
  readonly cause: string
  private readonly volume: Volume
  private readonly epoch: number
  private readonly leg: Leg
  private readonly pace: Pace
  private readonly startedAt: number
  private readonly sources = new Set<string>()
  private stopped: string | null = null
  private bytes = 0
  private bytesAtCheckpoint = 0
  /** Extents being copied, and the pieces of each that are not done. */
  private readonly left = new Map<number, number>()
  private readonly unreadable = new Set<number>()
  private cursor = 0
  private extent = -1
  private at = 0

  constructor(volume: Volume, leg: Leg, kind: ResyncSummary['kind'], cause: string) {
    this.volume = volume
    this.epoch = volume.epoch
    this.leg = leg
    this.kind = kind
    this.cause = cause
    this.startedAt = volume.clock.now()
    this.pace = new Pace(volume, volume.settings.resyncBytesPerSecond)
  }

  /** Copies until the leg lacks nothing; false when it left, or something cannot be read. */
  async run(): Promise<boolean> {
    const workers = Array.from({ length: this.volume.settings.resyncWindow }, () => this.work())
    await Promise.all(workers)
    if (!this.alive()) return false
    if (this.unreadable.size === 0) return true
    const what = `${this.unreadable.size} extents cannot be read from any leg in sync`
    failed(this.volume, this.leg, 'write', new StorageError('IO', what, this.leg.device.path))
    return false
  }

  /** The leg left: what was copied counts, as far as it was flushed. */
  stop(reason: string): void {
    if (this.stopped !== null) return
    this.stopped = reason
    this.volume.resyncs.delete(this.leg)
    this.volume.remember('resync', this.leg.name, 'resync stopped', this.summary(reason))
  }

  summary(outcome: string): ResyncSummary {
    const milliseconds = Math.round(this.volume.clock.now() - this.startedAt)
    const source = [...this.sources].join(', ').slice(0, reasonMax)
    return { kind: this.kind, cause: this.cause, source, bytes: this.bytes, milliseconds, outcome }
  }

  describe(): Record<string, unknown> {
    const bytesLeft = (this.leg.dirty?.bits.count ?? 0) * this.volume.extentSize
    const total = this.bytes + bytesLeft
    const seconds = Math.max(0.001, (this.volume.clock.now() - this.startedAt) / 1000)
    const bytesPerSecond = Math.round(this.bytes / seconds)
    return {
      kind: this.kind,
      cause: this.cause,
      source: [...this.sources].join(', '),
      bytesDone: this.bytes,
      bytesLeft,
      percent: total === 0 ? 100 : Math.floor((1000 * this.bytes) / total) / 10,
      bytesPerSecond,
      secondsLeft: bytesPerSecond === 0 ? null : Math.ceil(bytesLeft / bytesPerSecond),
    }
  }

  private alive(): boolean {
    return this.stopped === null && this.volume.epoch === this.epoch
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
    const { volume } = this
    const { extentSize } = volume
    if (this.extent === -1 && !this.nextExtent()) return null
    const { extent } = this
    const from = extent * extentSize
    const end = Math.min(from + extentSize, volume.record!.dataSize)
    const offset = from + this.at
    const length = Math.min(volume.settings.resyncChunkBytes, end - offset)
    this.at += length
    if (offset + length === end) this.extent = -1
    return { extent, offset, length }
  }

  private nextExtent(): boolean {
    const { dirty } = this.leg
    if (dirty === null || !this.alive()) return false
    let extent = this.freeBit(this.cursor)
    if (extent === -1) extent = this.freeBit(0)
    if (extent === -1) return false
    const { extentSize, settings } = this.volume
    const end = Math.min((extent + 1) * extentSize, this.volume.record!.dataSize)
    this.left.set(extent, Math.ceil((end - extent * extentSize) / settings.resyncChunkBytes))
    dirty.copying.set(extent, false)
    this.extent = extent
    this.cursor = extent + 1
    this.at = 0
    return true
  }

  private freeBit(from: number): number {
    const { bits } = this.leg.dirty!
    let bit = bits.next(from)
    while (bit !== -1 && (this.left.has(bit) || this.unreadable.has(bit))) bit = bits.next(bit + 1)
    return bit
  }

  private async copy(piece: Piece): Promise<void> {
    const { volume, leg } = this
    const range = new LockedRange(piece.offset, piece.offset + piece.length)
    await range.acquire(volume)
    if (this.alive()) {
      const read = await this.read(piece)
      if (read === null) this.unreadable.add(piece.extent)
      else if (!this.alive()) read.release()
      else {
        try {
          await rewrite(leg, piece.offset, read)
          this.bytes += piece.length
        } catch (error) {
          if (this.alive()) failed(volume, leg, 'write', systemError(error, 'resync'))
        }
      }
    }
    if (volume.epoch !== this.epoch) return
    this.pieceDone(piece)
    volume.locks.release(range)
  }

  private async read(piece: Piece) {
    const { volume } = this
    for (const source of volume.readable) {
      try {
        const read = await source.carryOut(Operation.read, piece.offset, piece.length, null)
        this.sources.add(source.name)
        return read
      } catch (error) {
        if (this.alive()) readFailed(volume, source, systemError(error, 'resync'))
      }
      if (!this.alive()) return null
    }
    return null
  }

  private pieceDone({ extent }: Piece): void {
    const left = this.left.get(extent)! - 1
    this.left.set(extent, left)
    if (left > 0) return
    this.left.delete(extent)
    const { dirty } = this.leg
    const latest = this.volume.resyncs.get(this.leg)
    // What is noted there is a later resync's, if the leg is back already.
    if (dirty === null || (latest !== undefined && latest !== this)) return
    const missed = dirty.copying.get(extent) === true
    dirty.copying.delete(extent)
    if (this.alive() && !missed && !this.unreadable.has(extent)) dirty.copied(extent)
  }

  private async save(): Promise<void> {
    if (this.bytes - this.bytesAtCheckpoint < this.volume.settings.resyncCheckpointBytes) return
    this.bytesAtCheckpoint = this.bytes
    try {
      await checkpoint(this.volume, this.leg)
    } catch (error) {
      if (this.alive()) failed(this.volume, this.leg, 'flush', systemError(error, 'resync'))
    }
  }
}
