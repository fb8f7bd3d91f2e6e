import { Bitmap } from '../base/bitmap.ts'
import { systemError } from '../base/errors.ts'
import { KiB } from '../base/size.ts'
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

/** Bytes of pages that are written at once, and such writes under way on each leg. */
const runBytesMax = 256 * KiB
const runsUnderWay = 8

/**
 * Writes pages of a map to legs, neighbours together, side by side. A leg that cannot take them
 * leaves. Resolves to whether all could; never rejects.
 */
export async function writeMap(
  volume: Volume,
  legs: readonly Leg[],
  map: number,
  bits: Bitmap,
  pages: readonly number[],
): Promise<boolean> {
  const left = runsOf(pages)
  const since = legs.map((leg) => leg.timesAbandoned)
  let whole = true
  const work = async (): Promise<void> => {
    for (let run = left.shift(); run !== undefined; run = left.shift()) {
      const bytes = encodeRun(bits, map, run)
      for (const written of await Promise.all(legs.map((_, at) => writeRun(at, run, bytes))))
        whole &&= written
    }
  }
  const writeRun = async (at: number, { first }: Run, bytes: Buffer): Promise<boolean> => {
    const leg = legs[at]!
    // What left meanwhile may be somebody else's by now.
    if (leg.timesAbandoned !== since[at]) return false
    try {
      await leg.write(mapOffset(volume.geometry, leg.end, map) + first * pageBytes, bytes)
      return true
    } catch (cause) {
      const error = systemError(cause, 'writing metadata', leg.device.path)
      failed(volume, leg, 'metadata', error)
      return false
    }
  }
  await Promise.all(Array.from({ length: Math.min(runsUnderWay, left.length) }, work))
  return whole
}

/** Pages one after the other. */
interface Run {
  readonly first: number
  readonly count: number
}

function runsOf(pages: readonly number[]): Run[] {
  const runs: { first: number; count: number }[] = []
  for (const page of pages.toSorted((one, other) => one - other)) {
    const last = runs.at(-1)
    const joins = last !== undefined && page === last.first + last.count
    if (joins && (last.count + 1) * pageBytes <= runBytesMax) last.count++
    else runs.push({ first: page, count: 1 })
  }
  return runs
}

function encodeRun(bits: Bitmap, map: number, { first, count }: Run): Buffer {
  const bytes = Buffer.allocUnsafe(count * pageBytes)
  for (let at = 0; at < count; at++)
    encodePage(bits, map, first + at, bytes.subarray(at * pageBytes, (at + 1) * pageBytes))
  return bytes
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
