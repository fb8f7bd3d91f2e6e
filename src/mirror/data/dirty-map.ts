import { Bitmap } from '../../base/bitmap.ts'
import { firstByteOf, pageOfBit } from '../layout.ts'
import { Blocks, setBlocks, type BlockGeometry, type BlockSet } from './blocks.ts'

/**
 * The extents that one leg lacks. What is durable of it, together with the intent log, always
 * covers everything: bits may stay durable for longer than they are needed, never shorter.
 *
 * In memory it is finer. When an extent is missed for the first time since it was whole, and
 * durably so, the missed blocks are recorded. Until it is whole again these are all that the leg
 * can lack of it, whatever was copied and lost with its cache in between.
 */
export class DirtyMap {
  /** What must be copied. Set through `set`; cleared when copied. */
  readonly bits: Bitmap
  /** What the maps on disk say, or will say once the writes under way are done. */
  readonly durable: Bitmap
  /** Extents being copied, and whether something was missed since that began. */
  readonly copying = new Map<number, boolean>()
  /** Pages with bits that are set and not durable. */
  private readonly behind = new Set<number>()
  /** Extents that the flush under way may not cover; null when there is none. */
  private uncovered: Bitmap | null = null
  /** The bitmaps of `missedFromNow`, which collect what is missed. */
  private readonly missed = new Set<Bitmap>()
  /**
   * The missed blocks of extents in `bits` or `durable`. Of an extent without a row the leg may
   * lack everything.
   */
  private readonly blocks: Blocks

  constructor(geometry: BlockGeometry) {
    this.bits = new Bitmap(geometry.extents)
    this.durable = new Bitmap(geometry.extents)
    this.blocks = new Blocks(geometry)
  }

  get any(): boolean {
    return this.bits.count > 0
  }

  /** Notes that the leg may lack anything of the extent. */
  set(extent: number): void {
    this.blocks.forget(extent)
    this.mark(extent)
  }

  /** Notes that the leg may lack these bytes, `to` not included. */
  miss(from: number, to: number): void {
    const { extentSize, blockBytes } = this.blocks
    const last = Math.floor((to - 1) / extentSize)
    for (let extent = Math.floor(from / extentSize); extent <= last; extent++) {
      const base = extent * extentSize
      const first = Math.floor(Math.max(0, from - base) / blockBytes)
      const end = Math.floor((Math.min(extentSize, to - base) - 1) / blockBytes)
      if (this.knows(extent)) setBlocks(this.blocks.row(extent), first, end)
      this.mark(extent)
    }
  }

  /** Notes that the leg may lack what is in the set. */
  missSet(set: BlockSet): void {
    const { extents } = set
    for (let extent = extents.next(0); extent !== -1; extent = extents.next(extent + 1))
      this.missFrom(set, extent)
  }

  /** The same for one extent of the set. */
  missFrom(set: BlockSet, extent: number): void {
    const row = set.rowOf(extent)
    if (row === null) this.set(extent)
    else {
      if (this.knows(extent)) this.blocks.add(extent, row)
      this.mark(extent)
    }
  }

  /** A bit for each block that the leg may lack of an extent in `bits`; null when it may be any. */
  rowOf(extent: number): Uint8Array | null {
    return this.blocks.has(extent) ? this.blocks.row(extent) : null
  }

  /** Bytes that the leg may lack. */
  get bytes(): number {
    const { bits, blocks } = this
    let bytes = bits.count * blocks.extentSize
    for (let extent = blocks.next(0); extent !== -1; extent = blocks.next(extent + 1))
      if (bits.has(extent)) bytes -= blocks.extentSize - blocks.bytesOf(extent)
    return bytes
  }

  /** Bytes that the leg may lack of an extent in `bits`. */
  bytesOf(extent: number): number {
    return this.blocks.has(extent) ? this.blocks.bytesOf(extent) : this.blocks.extentSize
  }

  private knows(extent: number): boolean {
    if (this.blocks.has(extent)) return true
    return !this.bits.has(extent) && !this.durable.has(extent) && this.blocks.begin(extent)
  }

  private mark(extent: number): void {
    if (this.missed.size > 0) for (const missed of this.missed) missed.set(extent)
    if (this.copying.has(extent)) this.copying.set(extent, true)
    if (this.bits.set(extent) && !this.durable.has(extent)) this.behind.add(pageOfBit(extent))
  }

  /**
   * A bitmap that collects the extents missed from now on, until it is passed to `forgetMissed`.
   */
  missedFromNow(): Bitmap {
    const missed = new Bitmap(this.bits.length)
    this.missed.add(missed)
    return missed
  }

  forgetMissed(missed: Bitmap): void {
    this.missed.delete(missed)
  }

  /**
   * Takes over what a map on disk says. The maps of the legs may disagree, so each of its pages is
   * written again.
   */
  inherit(found: Bitmap): void {
    this.durable.merge(found)
    for (let bit = found.next(0); bit !== -1; bit = found.next(bit + 1))
      this.behind.add(pageOfBit(bit))
  }

  /**
   * Forgets the missed blocks: of each extent in `bits` or `durable` the leg may lack everything.
   */
  coarsen(): void {
    this.blocks.forgetAll()
  }

  setAll(): void {
    this.blocks.forgetAll()
    this.bits.setAll()
    for (let page = 0; page <= pageOfBit(this.bits.length - 1); page++) this.behind.add(page)
  }

  merge(other: Bitmap): void {
    for (let bit = other.next(0); bit !== -1; bit = other.next(bit + 1)) this.set(bit)
  }

  /** Notes that the leg has all of the extent, unless it loses its cache. */
  copied(extent: number): void {
    this.bits.clear(extent)
    this.uncovered?.set(extent)
    // Missed since the map was last written: the map must say so until a flush covers the copy.
    if (!this.durable.set(extent)) return
    this.behind.add(pageOfBit(extent))
  }

  /** To be called before the leg is flushed, so that `takeFlushed` knows what the flush covers. */
  beginFlush(): void {
    this.uncovered = new Bitmap(this.bits.length)
    this.uncovered.copy(this.bits)
  }

  /** Notes that the leg may have lost what was copied to it and not flushed: it is copied again. */
  forgetCopies(): void {
    // The first pieces of an extent that is being copied may be gone as well.
    for (const extent of this.copying.keys()) this.copying.set(extent, true)
    this.bits.merge(this.durable)
    for (const missed of this.missed) missed.merge(this.durable)
  }

  /** The pages to write so that every bit set by now is durable. */
  takeBehind(): number[] {
    const pages = [...this.behind]
    this.behind.clear()
    for (const page of pages) {
      const from = firstByteOf(page)
      this.durable.mergeBytes(from, this.bits.bytes.subarray(from, firstByteOf(page + 1)))
    }
    return pages
  }

  /** The pages to write so that only what the flush did not cover stays durable. */
  takeFlushed(): number[] {
    const wanted = this.uncovered
    this.uncovered = null
    if (wanted === null) return []
    wanted.merge(this.bits)
    const pages = new Set(this.behind)
    for (let at = 0; at < wanted.bytes.length; at++)
      if (wanted.bytes[at] !== this.durable.bytes[at]) pages.add(pageOfBit(at * 8))
    this.durable.copy(wanted)
    const { blocks } = this
    // An extent that is whole, and durably so, starts without blocks when it is missed again.
    for (let extent = blocks.next(0); extent !== -1; extent = blocks.next(extent + 1))
      if (!wanted.has(extent)) blocks.forget(extent)
    this.behind.clear()
    return [...pages]
  }
}
