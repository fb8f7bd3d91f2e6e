import { MiB } from '../base/size.ts'
import { extentZero } from '../device/extents.ts'
import { Operation } from '../device/request.ts'
import { within } from './deadline.ts'
import { pageBytes, superblockBytes } from './layout.ts'
import type { Leg } from './leg.ts'
import { decodeSlot, slotLength } from './superblock.ts'
import type { Volume } from './volume.ts'

/** Of what is asked about allocation at once. */
const windowBytes = 1024 * MiB
const zeroPage = Buffer.alloc(pageBytes)

/** How far a leg has data, once somebody has looked for that. */
export interface Filled {
  /** Bytes: all beyond reads as zeroes. 0: all of it does. */
  readonly to: number
  /** Of the content when it was read; null where nobody can tell whether it was changed since. */
  readonly stamp: string | null
}

/** Looks how far the leg has data; reads what it does not know to be zero, from its end. */
export async function findFilled(volume: Volume, leg: Leg): Promise<Filled> {
  const stamp = await stampOf(volume, leg)
  return { to: (await lastPage(leg)) + pageBytes, stamp }
}

/**
 * Whether that is so still, now that the leg is claimed. Where there is nobody to claim it from, it
 * is as true as if it were looked for again.
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
 * Where the metadata of a leg ended before it grew, when nobody remembers that: they are the last
 * thing on it, if what it grew by reads as zeroes. 0 when nothing of the kind is found.
 */
export async function formerEnd(leg: Leg, { to }: Filled): Promise<number> {
  if (to === 0) return 0
  const from = Math.max(0, to - superblockBytes)
  const bytes = await leg.read(from, to - from)
  for (let at = bytes.length - pageBytes; at >= 0; at -= pageBytes) {
    if (slotLength(bytes.subarray(at)) === 0) continue
    const found = decodeSlot(bytes.subarray(at))
    if (found.kind !== 'superblock') continue
    const { self, record } = found.superblock
    return record.members.find(({ id }) => id === self)!.size
  }
  return 0
}

/** The last page that does not read as zeroes; `-pageBytes` when all of them do. */
async function lastPage(leg: Leg): Promise<number> {
  for (let end = leg.endNow; end > 0; end -= windowBytes) {
    const from = Math.max(0, end - windowBytes)
    for (const run of (await dataBetween(leg, from, end)).toReversed()) {
      const page = await lastPageBetween(leg, run.from, run.to)
      if (page >= 0) return page
    }
  }
  return -pageBytes
}

interface Run {
  readonly from: number
  readonly to: number
}

/** What the leg does not know to be zero. */
async function dataBetween(leg: Leg, from: number, to: number): Promise<Run[]> {
  const runs: Run[] = []
  for (let at = from; at < to;) {
    const child = await leg.carryOut(Operation.status, at, to - at, null)
    const { lengths, flags } = child.extents
    for (const [index, length] of lengths.entries()) {
      if ((flags[index]! & extentZero) === 0) runs.push({ from: at, to: at + length })
      at += length
    }
    child.release()
  }
  return runs
}

async function lastPageBetween(leg: Leg, from: number, to: number): Promise<number> {
  const first = from - (from % pageBytes)
  for (let end = Math.ceil(to / pageBytes) * pageBytes; end > first;) {
    const start = Math.max(first, end - MiB)
    const bytes = await leg.read(start, end - start)
    for (let at = bytes.length - pageBytes; at >= 0; at -= pageBytes)
      if (!bytes.subarray(at, at + pageBytes).equals(zeroPage)) return start + at
    end = start
  }
  return -1
}
