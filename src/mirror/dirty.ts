import { Bitmap } from '../base/bitmap.ts'
import { systemError } from '../base/errors.ts'
import { failed } from './departure.ts'
import { flushLeg } from './flushing.ts'
import { encodePage, mapOffset, pageBytes, pageOfBit } from './layout.ts'
import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

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
  const uncovered = dirty.beginFlush()
  try {
    await flushLeg(volume, leg)
    await volume.maps.run(async () => {
      if (leg.dirty !== dirty) return
      const pages = dirty.replaceDurable(uncovered)
      if (!(await writePages(volume, leg, pages))) await volume.membership.settled()
    })
  } finally {
    dirty.endFlush(uncovered)
  }
}

function writePages(volume: Volume, leg: Leg, pages: readonly number[]): Promise<boolean> {
  return writeMap(volume, volume.run.keepers, 1 + leg.member!.slot, leg.dirty!.durable, pages)
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
      const fail = (cause: unknown): void => {
        whole = false
        const error = systemError(cause, 'writing metadata', leg.device.path)
        failed(volume, leg, 'metadata', error)
      }
      writes.push(leg.write(offset, bytes).catch(fail))
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
