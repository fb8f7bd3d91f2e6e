import { StorageError, systemError } from '../base/errors.ts'
import { areReadable, flushLeg } from './data/flushing.ts'
import { failed } from './departure.ts'
import { dataSizeFor, metadataBytes, type Geometry } from './layout.ts'
import { zeroBytesMax, type Leg } from './leg.ts'
import { sameGeneration, type Generation, type VolumeRecord } from './record.ts'
import { sizeLimit } from './room.ts'
import { unreachable } from './rules/verdicts.ts'
import { formatMaps } from './start/create.ts'
import type { Volume } from './volume.ts'

/** What `makeReady` has made ready on all legs. */
export interface Ready {
  readonly wanted: Geometry
  /** From this byte to the new end of the volume all legs are zero, on stable storage. */
  readonly zeroFrom: number
  /** The generation of the record then: while it is the same, no leg has left. */
  readonly generation: Generation
}

/** Why a volume that has grown starts anew. */
export const hasGrown = 'the volume has grown'

/**
 * The longest pause before growing is tried again, in multiples of `legRetryMsMax`: an hour by
 * default.
 */
const pausesMax = 60

/**
 * The first half of growing, while clients go on: zeroes what lies beyond the metadata of the
 * smallest leg. Resolves to null when there is nothing to gain, or a leg left or could not do it;
 * never rejects.
 */
export async function makeReady(volume: Volume): Promise<Ready | null> {
  const wanted = wantedGeometry(volume)
  if (wanted === null) return null
  const { legs, membership } = volume
  const { generation, dataSize } = volume.record!
  // A leg whose metadata an earlier attempt has moved has none there.
  const ends = legs.map((leg) => (leg.endNow > leg.end ? leg.end : dataSize))
  const zeroFrom = Math.min(wanted.dataSize, Math.max(dataSize, ...ends))
  const over = (): boolean =>
    membership.over() || volume.legs !== legs || volume.readable.length < legs.length
  for (const leg of legs) {
    try {
      await zeroRange(volume, leg, { from: zeroFrom, to: wanted.dataSize }, over)
    } catch (error) {
      if (over()) return null
      cannotGrow(volume, leg, error)
      if ((error as StorageError).code === 'STALE') volume.hooks.onGrown()
      return null
    }
  }
  return over() ? null : { wanted, zeroFrom, generation }
}

/**
 * The second half of growing. The metadata are first copied to the new end of each leg, as they
 * are; then the new size is one change of the record like any other, and the volume starts anew
 * from it, zeroing what the metadata covered before, see `finishGrowth`. A crash finds the old
 * volume or the new one. Resolves to false when the legs are not as `makeReady` left them, or
 * growing failed; never rejects.
 */
export async function grow(volume: Volume, ready: Ready): Promise<boolean> {
  const { membership } = volume
  let done = false
  await volume.jobs.quiet(async () => {
    try {
      await membership.settled()
      if (membership.over() || !isStillReady(volume, ready)) return
      await volume.intent.empty()
      await membership.settled()
      if (!membership.over() && isStillReady(volume, ready)) await announceMoves(volume)
      if (membership.over()) return
      if (isStillReady(volume, ready)) {
        await enlarge(volume, ready)
        done = true
      } else {
        volume.intent.prepare()
        await membership.written('log')
      }
    } catch (error) {
      // Suspend before writes go on: the log is empty.
      if (!membership.over()) volume.suspend(systemError(error, 'growing').message)
    }
  })
  return done
}

/** Whether the legs are as they were when they were made ready. */
function isStillReady(volume: Volume, { wanted, generation }: Ready): boolean {
  const now = wantedGeometry(volume)
  return now?.dataSize === wanted.dataSize && sameGeneration(volume.record!.generation, generation)
}

/**
 * Notes that a leg which is not away cannot grow. It is tried again when it has another size, or
 * after a doubling pause: an attempt may interrupt the volume, and a disk stays full until room is
 * made on it.
 */
function cannotGrow(volume: Volume, leg: Leg, error: unknown): void {
  const { code, message } = systemError(error, 'growing', leg.device.path)
  if (unreachable.has(code)) return
  const { legRetryMsMax } = volume.settings
  const isNews = leg.getStuck(volume.clock, legRetryMsMax, pausesMax * legRetryMsMax, () => {
    volume.hooks.onGrown()
  })
  if (!isNews) return
  volume.remember('operator', leg.name, `the volume cannot grow because of this leg: ${message}`)
  volume.membership.request('record')
}

/**
 * The geometry that the legs have room for; null when there is nothing to gain, or a leg is not in
 * sync or did not grow.
 */
function wantedGeometry(volume: Volume): Geometry | null {
  const { record } = volume
  if (!volume.running || volume.readable.length < volume.legs.length) return null
  if (volume.legs.some((leg) => leg.isStuck)) return null
  const { extentSize, slots } = record!
  const rooms = volume.legs.map((leg) => dataSizeFor(leg.endNow, extentSize, slots))
  const dataSize = Math.min(...rooms, sizeLimit(volume))
  if (dataSize <= record!.dataSize) return null
  const wanted = { dataSize, extentSize, slots }
  return volume.legs.every((leg) => canMove(leg, wanted)) ? wanted : null
}

/**
 * Whether metadata for `wanted` can be written without touching the old before they count. If the
 * leg ends as before, either it was larger than others, or an attempt that a crash cut off has
 * moved its metadata. Only the maps change there. They are clean, and a crash that finds some of
 * either kind reads them as all ones.
 */
function canMove(leg: Leg, wanted: Geometry): boolean {
  return leg.endNow === leg.end || leg.endNow - metadataBytes(wanted) >= leg.end
}

/**
 * Saves where the metadata go, in the head's store and on all legs, before any are there. Otherwise
 * a leg that grows once more would be found with its metadata at the old place, which know less
 * than it had since.
 */
async function announceMoves({ legs, membership }: Volume): Promise<void> {
  for (const leg of legs) {
    leg.member!.size = leg.end
    if (leg.endNow > leg.end) leg.member!.movesTo = leg.endNow
    else delete leg.member!.movesTo
  }
  membership.request('record')
  await membership.settled()
}

async function enlarge(volume: Volume, { wanted, zeroFrom }: Ready): Promise<void> {
  const record = volume.record!
  const { membership } = volume
  const from = record.dataSize
  await onEach(volume, async (leg) => {
    const { movesTo } = leg.member!
    if (movesTo !== undefined) await moveMetadata(volume, leg, movesTo)
  })
  try {
    await onEach(volume, (leg) => formatMaps(leg, wanted))
  } catch (error) {
    if (!membership.over()) await restoreMaps(volume)
    throw error
  }
  if (membership.over()) return
  record.dataSize = wanted.dataSize
  record.zeroing = { from, to: zeroFrom }
  for (const leg of volume.legs) {
    leg.member!.size = leg.end
    delete leg.member!.movesTo
  }
  volume.remember('operator', '', `grew from ${from} to ${wanted.dataSize} bytes`)
  membership.request('members')
  await membership.settled()
  if (!membership.over()) volume.suspend(hasGrown, 'larger')
}

/** The old size still counts: with maps of the new one everything would be copied. */
async function restoreMaps({ readable, geometry }: Volume): Promise<void> {
  await Promise.allSettled(readable.map((leg) => formatMaps(leg, geometry)))
}

/**
 * Throws if the leg has left, though its device may be there again, unchanged or another one. What
 * is written to it now would make it a leg that lacks nothing.
 */
function mustTakePart(volume: Volume, leg: Leg): void {
  if (!areReadable(volume, [leg]))
    throw new StorageError('UNAVAILABLE', `${leg.name} left`, leg.device.path)
}

async function onEach(volume: Volume, action: (leg: Leg) => Promise<void>): Promise<void> {
  const { membership } = volume
  for (const leg of volume.legs) {
    try {
      if (membership.over()) return
      mustTakePart(volume, leg)
      await action(leg)
    } catch (error) {
      if (!membership.over()) cannotGrow(volume, leg, error)
      throw error
    }
  }
}

/**
 * Moves the metadata while neither maps nor superblocks are written for another reason, or those
 * writes would be lost.
 */
async function moveMetadata(volume: Volume, leg: Leg, end: number): Promise<void> {
  const prepare = async (): Promise<void> => {
    mustTakePart(volume, leg)
    leg.superblocks.moveTo(end)
    await formatMaps(leg, volume.geometry)
  }
  const record = (): VolumeRecord => {
    mustTakePart(volume, leg)
    // No leg may hear of a change before the own store. A long history would not fit.
    return { ...volume.membership.recordFor(leg), entries: [] }
  }
  await volume.membership.withMaps(() => leg.superblocks.writeBoth(prepare, record))
}

/**
 * Finishes a growth at the next start: writes zeroes where metadata were, on all legs in sync.
 * Rejects if the last leg cannot do it.
 */
export async function finishGrowth(volume: Volume): Promise<void> {
  const { zeroing } = volume.record!
  if (zeroing === null) return
  const { extentSize, membership } = volume
  const first = Math.floor(zeroing.from / extentSize)
  for (let extent = first; extent < volume.extents; extent++)
    for (const leg of volume.legs) leg.dirty?.set(extent)
  const over = (): boolean => membership.over()
  const zero = async (leg: Leg): Promise<void> => {
    try {
      await zeroRange(volume, leg, zeroing, over)
    } catch (error) {
      if (over()) return
      const failure = systemError(error, 'growing', leg.device.path)
      if (!failed(volume, leg, 'write', failure)) throw failure
      for (let extent = first; extent < volume.extents; extent++) leg.dirty?.set(extent)
    }
  }
  await Promise.all(volume.inSync.map(zero))
  if (!over()) volume.record!.zeroing = null
}

/**
 * Zeroes the range on stable storage, or stops early when `over`. Rejects when the leg fails or
 * restarts.
 */
async function zeroRange(
  volume: Volume,
  leg: Leg,
  { from, to }: { readonly from: number; readonly to: number },
  over: () => boolean,
): Promise<void> {
  const { bootId } = leg
  for (let offset = from; offset < to && !over(); offset += zeroBytesMax) {
    mustTakePart(volume, leg)
    await leg.zero(offset, Math.min(zeroBytesMax, to - offset))
  }
  if (!over()) await flushLeg(volume, leg)
  // Nothing else remembers what the leg had not flushed of this.
  if (leg.bootId !== bootId)
    throw new StorageError('STALE', 'it restarted meanwhile', leg.device.path)
}
