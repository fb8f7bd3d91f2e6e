import { StorageError } from '../../base/errors.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import { LockedRange } from './locked.ts'
import { Pace } from './pace.ts'

const sectorBytes = 512

/**
 * Where a leg differs from the volume: the bytes of the sectors, and the extents that they are in.
 */
export interface Changed {
  readonly bytes: number
  readonly extents: readonly number[]
}

/**
 * Compares a leg that was away with the volume in the extents of which the leg lacks nothing, and
 * resolves to where they differ. Clients go on: an extent that they write to meanwhile is lacking,
 * and skipped. Rejects when a read fails, and with UNAVAILABLE when the run ends.
 */
export async function changedAlone(volume: Volume, leg: Leg): Promise<Changed> {
  const pace = new Pace(volume, volume.settings.resyncBytesPerSecond)
  try {
    return await compareAll(volume, leg, pace)
  } finally {
    pace.end()
  }
}

async function compareAll(volume: Volume, leg: Leg, pace: Pace): Promise<Changed> {
  const { extentSize, membership } = volume
  const { dataSize } = volume.record!
  const extents: number[] = []
  let bytes = 0
  // A comparison cut short says nothing about the rest, and the range locks are another run's.
  const mustGoOn = (): void => {
    if (membership.over())
      throw new StorageError('UNAVAILABLE', 'the volume stopped meanwhile', volume.path)
  }
  for (let extent = 0; extent < volume.extents; extent++) {
    const end = Math.min((extent + 1) * extentSize, dataSize)
    let different = 0
    for (let offset = extent * extentSize; offset < end;) {
      const length = Math.min(volume.settings.resyncChunkBytes, end - offset)
      await pace.before(length)
      mustGoOn()
      const range = new LockedRange(offset, offset + length)
      await range.acquire(volume)
      try {
        mustGoOn()
        if (leg.dirty?.bits.has(extent) === false)
          different += await differenceAt(volume, leg, offset, length)
      } finally {
        range.release(volume)
      }
      offset += length
    }
    mustGoOn()
    if (different > 0) extents.push(extent)
    bytes += different
  }
  return { bytes, extents }
}

async function differenceAt(
  volume: Volume,
  leg: Leg,
  offset: number,
  length: number,
): Promise<number> {
  const source = volume.readable[0]!
  const [ours, theirs] = await Promise.all([source.read(offset, length), leg.read(offset, length)])
  return differentBytes(ours, theirs)
}

/**
 * The ranges of sectors, in bytes, in which any piece differs from the first. All pieces have the
 * same length.
 */
export function differentRanges(pieces: readonly Buffer[]): { from: number; to: number }[] {
  const [first, ...others] = pieces
  const ranges: { from: number; to: number }[] = []
  if (first === undefined) return ranges
  for (let at = 0; at < first.length; at += sectorBytes) {
    const to = Math.min(at + sectorBytes, first.length)
    if (others.every((other) => other.compare(first, at, to, at, to) === 0)) continue
    const last = ranges.at(-1)
    if (last?.to === at) last.to = to
    else ranges.push({ from: at, to })
  }
  return ranges
}

/** Bytes of the sectors in which two pieces of the same length differ. */
export function differentBytes(one: Buffer, other: Buffer): number {
  if (one.equals(other)) return 0
  let bytes = 0
  for (let at = 0; at < one.length; at += sectorBytes) {
    const sector = one.subarray(at, at + sectorBytes)
    if (!sector.equals(other.subarray(at, at + sectorBytes))) bytes += sector.length
  }
  return bytes
}
