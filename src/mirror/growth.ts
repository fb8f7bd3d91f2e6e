import { systemError } from '../base/errors.ts'
import { rangeBytesMax } from '../device/validate.ts'
import { formatMaps } from './create.ts'
import { dataSizeFor, mapBytes, metadataBytes, type Geometry } from './layout.ts'
import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

/**
 * Grows the volume to what all its legs have room for. The metadata are first copied to the new
 * end of each leg, as they are; then the new size is one change of the record like any other, and
 * the volume starts anew from it: what the metadata covered before becomes zeroes then, see
 * `finishGrowth`. A crash finds the old volume or the new one.
 */
export async function grow(volume: Volume): Promise<void> {
  if (wantedGeometry(volume) === null) return
  const { epoch } = volume
  try {
    await volume.quiet(async () => {
      await volume.intent.cleanAll()
      // As the legs are by now.
      const wanted = wantedGeometry(volume)
      if (volume.epoch === epoch && wanted !== null) await enlarge(volume, wanted)
    })
  } catch (error) {
    if (volume.epoch === epoch) volume.suspend(systemError(error, 'growing').message)
  }
}

/** Null when there is nothing to gain, or a leg is not in sync or did not grow. */
function wantedGeometry(volume: Volume): Geometry | null {
  const { record } = volume
  if (!volume.running || volume.readable.length < volume.legs.length) return null
  const { extentSize, slots } = record!
  const rooms = volume.legs.map((leg) => dataSizeFor(leg.endNow, extentSize, slots))
  const dataSize = Math.min(...rooms, volume.settings.size ?? Infinity)
  if (dataSize <= record!.dataSize) return null
  const wanted = { dataSize, extentSize, slots }
  return volume.legs.every((leg) => canMove(volume, leg, wanted)) ? wanted : null
}

/** New metadata may not touch the old before they count. */
function canMove(volume: Volume, leg: Leg, wanted: Geometry): boolean {
  if (leg.endNow === leg.end) return mapBytes(wanted) === mapBytes(volume.geometry)
  return leg.endNow - metadataBytes(wanted) >= leg.end
}

async function enlarge(volume: Volume, wanted: Geometry): Promise<void> {
  const record = volume.record!
  const { epoch } = volume
  const from = record.dataSize
  for (const leg of volume.legs) {
    const moves = leg.endNow > leg.end
    await zeroRange(leg, moves ? leg.end : from, wanted.dataSize)
    if (moves) await moveMetadata(leg, volume)
  }
  if (volume.epoch !== epoch) return
  for (const leg of volume.legs) await formatMaps(leg, wanted)
  if (volume.epoch !== epoch) return
  record.dataSize = wanted.dataSize
  record.zeroing = { from, to: wanted.dataSize }
  for (const leg of volume.legs) leg.member!.size = leg.end
  volume.remember('operator', '', `grew from ${from} to ${wanted.dataSize} bytes`)
  volume.membership.request(true)
  await volume.membership.settled()
  if (volume.epoch === epoch) volume.suspend('the volume has grown')
}

async function moveMetadata(leg: Leg, volume: Volume): Promise<void> {
  leg.end = leg.endNow
  await formatMaps(leg, volume.geometry)
  await leg.writeSuperblock(volume.record!)
  await leg.writeSuperblock(volume.record!)
}

/** At the start after a growth: zeroes where metadata were, on all legs in sync. */
export async function finishGrowth(volume: Volume): Promise<void> {
  const { zeroing } = volume.record!
  if (zeroing === null) return
  const { epoch, extentSize } = volume
  const first = Math.floor(zeroing.from / extentSize)
  for (let extent = first; extent < volume.extents; extent++)
    for (const leg of volume.legs) leg.dirty?.set(extent)
  await Promise.all(volume.inSync.map((leg) => zeroRange(leg, zeroing.from, zeroing.to)))
  await Promise.all(volume.inSync.map((leg) => leg.flush()))
  if (volume.epoch === epoch) volume.record!.zeroing = null
}

async function zeroRange(leg: Leg, from: number, to: number): Promise<void> {
  const step = rangeBytesMax - (rangeBytesMax % (1 << 20))
  for (let offset = from; offset < to; offset += step)
    await leg.zero(offset, Math.min(step, to - offset))
}
