import { Bitmap } from '../base/bitmap.ts'
import { firstByteOf, pageOfBit } from './layout.ts'

/**
 * The extents that one leg lacks. What is durable of it, together with the intent log, always
 * covers everything: bits may stay durable for longer than they are needed, never shorter.
 */
export class DirtyMap {
  /** What must be copied. Set through `set`; cleared when copied. */
  readonly bits: Bitmap
  /** What the legs in sync have on disk, or will once what is being written has been. */
  readonly durable: Bitmap
  /** Extents being copied, and whether something was missed since that began. */
  readonly copying = new Map<number, boolean>()
  /** Pages with bits that are set and not durable. */
  private readonly behind = new Set<number>()
  /** Of every flush of the leg under way: the extents that it may not cover. */
  private readonly uncovered = new Set<Bitmap>()

  constructor(extents: number) {
    this.bits = new Bitmap(extents)
    this.durable = new Bitmap(extents)
  }

  set(extent: number): void {
    if (this.copying.has(extent)) this.copying.set(extent, true)
    if (this.bits.set(extent) && !this.durable.has(extent)) this.behind.add(pageOfBit(extent))
  }

  /** Takes over what was on disk, where no two legs need to have the same. */
  inherit(found: Bitmap): void {
    this.durable.merge(found)
    for (let bit = found.next(0); bit !== -1; bit = found.next(bit + 1))
      this.behind.add(pageOfBit(bit))
  }

  setAll(): void {
    this.bits.setAll()
    for (let page = 0; page <= pageOfBit(this.bits.length - 1); page++) this.behind.add(page)
  }

  merge(other: Bitmap): void {
    for (let bit = other.next(0); bit !== -1; bit = other.next(bit + 1)) this.set(bit)
  }

  /** The leg has all of the extent, as far as it does not lose its cache. */
  copied(extent: number): void {
    this.bits.clear(extent)
    for (const extents of this.uncovered) extents.set(extent)
    // It may have been missed since the map was written last.
    if (!this.durable.set(extent)) return
    this.behind.add(pageOfBit(extent))
  }

  /** The leg is about to be flushed: what that will not cover, until `endFlush`. */
  beginFlush(): Bitmap {
    const extents = new Bitmap(this.bits.length)
    extents.copy(this.bits)
    this.uncovered.add(extents)
    return extents
  }

  endFlush(extents: Bitmap): void {
    this.uncovered.delete(extents)
  }

  /** The leg may have lost what was copied to it and not flushed: copy it again. */
  forgetCopies(): void {
    // Of an extent that is being copied the beginning may be gone.
    for (const extent of this.copying.keys()) this.copying.set(extent, true)
    this.bits.merge(this.durable)
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

  /** The pages to write so that no more than `wanted`, and what was set since, stays durable. */
  replaceDurable(wanted: Bitmap): number[] {
    wanted.merge(this.bits)
    const pages = new Set(this.behind)
    for (let at = 0; at < wanted.bytes.length; at++)
      if (wanted.bytes[at] !== this.durable.bytes[at]) pages.add(pageOfBit(at * 8))
    this.durable.copy(wanted)
    this.behind.clear()
    return [...pages]
  }
}
