import { Bitmap } from '../../base/bitmap.ts'
import { systemError } from '../../base/errors.ts'
import { KiB } from '../../base/size.ts'
import { encodePage, mapOffset, pageBytes, pageOfBit } from '../layout.ts'
import type { Leg } from '../leg.ts'
import type { MapWork } from '../rules/run.ts'
import type { Volume } from '../volume.ts'
import type { DirtyMap } from './dirty-map.ts'

/**
 * Pages of a map on their way to legs. Map 0 is the log, map `1 + slot` what the member in that
 * slot lacks.
 */
export interface MapPages {
  readonly map: number
  readonly bits: Bitmap
  readonly pages: readonly number[]
}

/**
 * Writes the maps that the rules ask for. Resolves to whether every leg has them; never rejects.
 */
export function writeWork(volume: Volume, work: MapWork<Leg>): Promise<boolean> {
  const { keepers } = volume.run
  switch (work.what) {
    case 'log':
      return writeMaps(volume, keepers, [volume.intent.takePages()])
    case 'copied':
      return writeMaps(
        volume,
        keepers,
        pagesOf(work.then as Leg, (dirty) => dirty.takeFlushed()),
      )
    case 'all':
      // The leg may have left, and another head may have its device by now.
      return writeMaps(
        volume,
        keepers.filter((leg) => leg === work.then),
        allMaps(volume),
      )
    case 'lacking':
    case 'held': {
      const lacking = volume.legs.flatMap((leg) => pagesOf(leg, (dirty) => dirty.takeBehind()))
      return writeMaps(volume, keepers, lacking)
    }
  }
}

function pagesOf({ dirty, member }: Leg, take: (dirty: DirtyMap) => number[]): MapPages[] {
  return dirty === null ? [] : [{ map: 1 + member!.slot, bits: dirty.durable, pages: take(dirty) }]
}

/** Bytes of pages in one write at most. */
const runBytesMax = 256 * KiB
/** Such writes under way on each leg at most. */
const runsUnderWay = 8

/**
 * Writes pages of maps to all of `legs` at once, adjacent pages in one write. A leg whose write
 * fails leaves. Resolves to whether every leg has all pages; never rejects.
 */
export async function writeMaps(
  { geometry, membership }: Volume,
  legs: readonly Leg[],
  maps: readonly MapPages[],
): Promise<boolean> {
  const left = maps.flatMap(runsOf)
  const since = legs.map((leg) => leg.timesAbandoned)
  let whole = true
  const work = async (): Promise<void> => {
    for (let run = left.shift(); run !== undefined; run = left.shift()) {
      const bytes = encodeRun(run)
      const offset = run.first * pageBytes
      const write = (leg: Leg, at: number): Promise<boolean> => {
        // If the leg left meanwhile, another head may have its device by now.
        if (leg.timesAbandoned !== since[at]) return Promise.resolve(false)
        return writeRun(leg, mapOffset(geometry, leg.end, run.map) + offset, bytes)
      }
      for (const written of await Promise.all(legs.map(write))) whole &&= written
    }
  }
  const writeRun = async (leg: Leg, offset: number, bytes: Buffer): Promise<boolean> => {
    try {
      await leg.write(offset, bytes)
      return true
    } catch (cause) {
      const error = systemError(cause, 'writing metadata', leg.device.path)
      membership.tell({ kind: 'failed', leg, work: 'metadata', error })
      return false
    }
  }
  await Promise.all(Array.from({ length: Math.min(runsUnderWay, left.length) }, work))
  return whole
}

/** Adjacent pages of a map. */
interface PageRun {
  readonly map: number
  readonly bits: Bitmap
  readonly first: number
  readonly count: number
}

function runsOf({ map, bits, pages }: MapPages): PageRun[] {
  const runs: { map: number; bits: Bitmap; first: number; count: number }[] = []
  for (const page of pages.toSorted((one, other) => one - other)) {
    const last = runs.at(-1)
    const joins = last !== undefined && page === last.first + last.count
    if (joins && (last.count + 1) * pageBytes <= runBytesMax) last.count++
    else runs.push({ map, bits, first: page, count: 1 })
  }
  return runs
}

function encodeRun({ map, bits, first, count }: PageRun): Buffer {
  const bytes = Buffer.allocUnsafe(count * pageBytes)
  for (let at = 0; at < count; at++)
    encodePage(bits, map, first + at, bytes.subarray(at * pageBytes, (at + 1) * pageBytes))
  return bytes
}

/** Every page of every map, for a leg that is about to be in sync. */
function allMaps(volume: Volume): MapPages[] {
  const pages = allPages(volume.extents)
  const empty = new Bitmap(volume.extents)
  const maps: MapPages[] = [{ map: 0, bits: volume.intent.bits, pages }]
  for (let slot = 0; slot < volume.geometry.slots; slot++) {
    const about = volume.legs.find((one) => one.member?.slot === slot)
    maps.push({ map: 1 + slot, bits: about?.dirty?.durable ?? empty, pages })
  }
  return maps
}

/** The numbers of all pages of a map for `extents` extents. */
export function allPages(extents: number): number[] {
  return Array.from({ length: pageOfBit(extents - 1) + 1 }, (_, page) => page)
}
