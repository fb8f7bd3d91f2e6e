import { Bitmap } from '../base/bitmap.ts'
import { systemError } from '../base/errors.ts'
import { metadataFailed } from './departure.ts'
import { encodePage, firstByteOf, mapOffset, pageBytes, pageOfBit } from './layout.ts'
import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

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
    const pages = new Set<number>()
    for (let at = 0; at < wanted.bytes.length; at++)
      if (wanted.bytes[at] !== this.durable.bytes[at]) pages.add(pageOfBit(at * 8))
    this.durable.copy(wanted)
    this.behind.clear()
    return [...pages]
  }
}

/** Makes every dirty bit that is set by now durable on every leg in sync. */
export async function syncDirtyMaps(volume: Volume): Promise<void> {
  await volume.maps.run(async () => {
    let whole = true
    for (const leg of volume.legs) {
      const pages = leg.dirty?.takeBehind() ?? []
      if (pages.length > 0) whole = (await writePages(volume, leg, pages)) && whole
    }
    if (!whole) await volume.membership.settled()
  })
}

/** Makes durable that the leg has what was copied to it: flushes it, then clears bits. */
export async function checkpoint(volume: Volume, leg: Leg): Promise<void> {
  const { dirty } = leg
  if (dirty === null) return
  const copied = new Bitmap(dirty.bits.length)
  copied.copy(dirty.bits)
  await leg.flush()
  await volume.maps.run(async () => {
    if (leg.dirty !== dirty) return
    const pages = dirty.replaceDurable(copied)
    if (!(await writePages(volume, leg, pages))) await volume.membership.settled()
  })
}

function writePages(volume: Volume, leg: Leg, pages: readonly number[]): Promise<boolean> {
  return writeMap(volume, volume.keepers, 1 + leg.member!.slot, leg.dirty!.durable, pages)
}

/**
 * Writes pages of a map to legs, side by side. A leg that cannot take them leaves. Resolves to
 * whether all could; never rejects.
 */
export async function writeMap(
  volume: Volume,
  legs: readonly Leg[],
  map: number,
  bits: Bitmap,
  pages: readonly number[],
): Promise<boolean> {
  let whole = true
  const writes: Promise<void>[] = []
  for (const page of pages) {
    const bytes = Buffer.allocUnsafe(pageBytes)
    encodePage(bits, map, page, bytes)
    for (const leg of legs) {
      const offset = mapOffset(volume.geometry, leg.end, map) + page * pageBytes
      const failed = (error: unknown): void => {
        whole = false
        metadataFailed(volume, leg, systemError(error, 'writing metadata', leg.device.path))
      }
      writes.push(leg.write(offset, bytes).catch(failed))
    }
  }
  await Promise.all(writes)
  return whole
}

/** Every page of every map, for a leg that is about to be in sync. */
export async function writeAllMaps(volume: Volume, leg: Leg): Promise<boolean> {
  const pages = allPages(volume)
  let whole = await writeMap(volume, [leg], 0, volume.intent.bits, pages)
  const empty = new Bitmap(volume.extents)
  for (let slot = 0; slot < volume.geometry.slots; slot++) {
    const about = volume.legs.find((one) => one.member?.slot === slot)
    const bits = about?.dirty?.durable ?? empty
    whole = (await writeMap(volume, [leg], 1 + slot, bits, pages)) && whole
  }
  return whole
}

function allPages(volume: Volume): number[] {
  const last = pageOfBit(volume.extents - 1)
  return Array.from({ length: last + 1 }, (_, page) => page)
}
