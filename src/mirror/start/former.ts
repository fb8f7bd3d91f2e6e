import { KiB, MiB, roundDown, roundUp } from '../../base/size.ts'
import { Operation, type Request } from '../../device/request.ts'
import { zeroesOf, type Run } from '../data/thin.ts'
import { within } from '../deadline.ts'
import { pageBytes, superblockBytes } from '../layout.ts'
import type { Leg } from '../leg.ts'
import { decodeSlot } from '../superblock.ts'
import { endsIn } from '../superblocks.ts'
import type { Volume } from '../volume.ts'
import type { Looking } from './looking.ts'

/** Bytes whose allocation is asked about at once. */
const windowBytes = 1024 * MiB
/** Bytes that are read at once, by several reads of `readBytes`. */
const pieceBytes = 4 * MiB
const readBytes = 1 * MiB
const zeroes = Buffer.alloc(64 * KiB)

/** How far a leg has data, as far as it was looked through. */
export interface Filled {
  /** Everything from this byte on reads as zeroes; 0: all of it does. */
  readonly to: number
  /** The stamp of the content when it was read; null where the device cannot tell of changes. */
  readonly stamp: string | null
}

/**
 * Looks how far the leg has data, up to `end`. Reads what the leg does not know to be zero. Rejects
 * when a read fails.
 */
export async function findFilled(volume: Volume, leg: Leg, end = leg.endNow): Promise<Filled> {
  const stamp = await stampOf(volume, leg)
  return { to: (await lastPage(volume, leg, end)) + pageBytes, stamp }
}

/**
 * Whether the result still holds, now that the leg is claimed. A leg that cannot be claimed has no
 * other head that could have changed it.
 */
export async function isStillSo(volume: Volume, leg: Leg, { stamp }: Filled): Promise<boolean> {
  if (leg.device.driver.claim === undefined) return true
  return stamp !== null && stamp === (await stampOf(volume, leg))
}

async function stampOf(volume: Volume, leg: Leg): Promise<string | null> {
  const stamp = await within(volume, leg.device.driver.stamp?.()).catch(() => undefined)
  return stamp ?? null
}

/**
 * Where the metadata of a leg may have ended before it grew, when no record says so: they are the
 * last thing on it, if what it grew by reads as zeroes. None when nothing of the kind is found. A
 * slot that is not whole may be either of the two, or lie beside a whole one. Rejects when a read
 * fails.
 */
export async function formerEnds(leg: Leg, { to }: Filled): Promise<readonly number[]> {
  if (to === 0) return []
  const from = Math.max(0, to - superblockBytes)
  const bytes = await leg.read(from, to - from)
  const ends: number[] = []
  for (let at = bytes.length - pageBytes; at >= 0; at -= pageBytes) {
    const found = decodeSlot(bytes.subarray(at))
    if (found.kind === 'blank') continue
    if (found.kind === 'superblock') ends.push(...endsIn(found.superblock))
    ends.push(from + at + superblockBytes, from + at + 2 * superblockBytes)
  }
  return ends
}

/** The last page that does not read as zeroes; `-pageBytes` when all of them do. */
async function lastPage({ looking }: Volume, leg: Leg, end: number): Promise<number> {
  while (end > 0) {
    const from = Math.max(0, end - windowBytes)
    const zeroes = await zeroesOf(leg, from, end)
    let to = end
    for (const zero of [...zeroes.toReversed(), { from, to: from }]) {
      const page = await lastPageBetween(looking, leg, { from: zero.to, to })
      if (page >= 0) return page
      looking.done(zero.to - zero.from, 0)
      to = zero.from
    }
    end = from
  }
  return -pageBytes
}

/** Reads the range from its end in pieces, each from its beginning, as disks like it. */
async function lastPageBetween(looking: Looking, leg: Leg, { from, to }: Run): Promise<number> {
  const first = roundDown(from, pageBytes)
  for (let end = roundUp(to, pageBytes); end > first;) {
    const start = Math.max(first, end - pieceBytes)
    const page = await lastPageOf(leg, start, end)
    if (page >= 0) return page
    looking.done(Math.min(end, to) - Math.max(start, from), end - start)
    end = start
  }
  return -1
}

async function lastPageOf(leg: Leg, start: number, end: number): Promise<number> {
  const reads: Promise<number>[] = []
  for (let at = start; at < end; at += readBytes)
    reads.push(lastPageRead(leg, at, Math.min(readBytes, end - at)))
  return Math.max(...(await Promise.all(reads)))
}

async function lastPageRead(leg: Leg, offset: number, length: number): Promise<number> {
  const read = await leg.carryOut(Operation.read, offset, length, null)
  try {
    if (isZero(read)) return -1
    const bytes = Buffer.allocUnsafe(length)
    read.copyTo(bytes)
    for (let at = length - pageBytes; at > 0; at -= pageBytes)
      if (bytes.compare(zeroes, 0, pageBytes, at, at + pageBytes) !== 0) return offset + at
    return offset
  } finally {
    read.release()
  }
}

/** Whether all that was read is zeroes. */
export function isZero({ segments }: Request): boolean {
  return segments.every((segment) => {
    for (let at = 0; at < segment.length; at += zeroes.length) {
      const end = Math.min(segment.length, at + zeroes.length)
      if (segment.compare(zeroes, 0, end - at, at, end) !== 0) return false
    }
    return true
  })
}
