import { Bitmap } from '../../base/bitmap.ts'
import { decodeMap, extentCount, mapBytes, mapOffset } from '../layout.ts'
import type { Leg } from '../leg.ts'
import { leftAtStart, type VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'

/** The maps on the legs, as they are when a volume starts. */
interface Maps {
  readonly intents: Bitmap
  /** The dirty maps of the members that are not here, by their names. */
  readonly dirty: ReadonlyMap<string, Bitmap>
}

/**
 * Reads the maps: a bit counts if any of the legs that are here has it set. Rejects when a read
 * fails.
 */
export async function readMaps(record: VolumeRecord, present: readonly Leg[]): Promise<Maps> {
  const intents = await readMap(record, present, 0)
  const dirty = new Map<string, Bitmap>()
  for (const { name, slot } of record.members)
    if (!present.some((leg) => leg.name === name))
      dirty.set(name, await readMap(record, present, 1 + slot))
  return { intents, dirty }
}

async function readMap(record: VolumeRecord, legs: readonly Leg[], map: number): Promise<Bitmap> {
  const bits = new Bitmap(extentCount(record))
  const read = async (leg: Leg): Promise<Buffer> =>
    leg.read(mapOffset(record, leg.end, map), mapBytes(record))
  for (const bytes of await Promise.all(legs.map(read))) decodeMap(bytes, map, bits)
  return bits
}

/**
 * Sets what each leg that is not here lacks: what its dirty map says, and what was in the intent
 * log.
 */
export function loadDirtyMaps(volume: Volume, present: readonly Leg[], maps: Maps): void {
  for (const leg of volume.legs) {
    leg.forget()
    if (present.includes(leg)) continue
    const dirty = leg.lacksNothing(volume)
    dirty.inherit(maps.dirty.get(leg.name)!)
    // For a leg that was in sync until now, the map on disk is of an earlier absence.
    if (leg.member!.state !== 'in-sync') dirty.bits.merge(dirty.durable)
    dirty.merge(maps.intents)
    if (leg.member!.state === 'in-sync') leg.member!.left = leftAtStart(volume.record!)
  }
}
