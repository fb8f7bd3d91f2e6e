import type { Extents } from '../device/extents.ts'

/** One run of a status reply: bytes (u32), flags (u32). */
export const runBytes = 8
/** The most runs in one status reply: what a connection stages in one piece. */
export const runsMax = 1500
const flagsKnown = 3

/** Writes the first `runs` of the extents at `at`. */
export function encodeRuns(bytes: Buffer, at: number, extents: Extents, runs: number): void {
  for (let run = 0; run < runs; run++) {
    bytes.writeUInt32LE(extents.lengths[run]!, at + run * runBytes)
    bytes.writeUInt32LE(extents.flags[run]!, at + run * runBytes + 4)
  }
}

/** True when a status reply can have a payload of so many bytes. */
export function areRuns(payload: number): boolean {
  return payload > 0 && payload % runBytes === 0 && payload <= runsMax * runBytes
}

/**
 * Adds the runs from `at` to `end` to `extents`. False when they cover nothing, or more than the
 * `length` bytes that were asked for.
 */
export function decodeRuns(
  bytes: Buffer,
  { at, end }: { readonly at: number; readonly end: number },
  extents: Extents,
  length: number,
): boolean {
  for (let from = at, left = length; from < end; from += runBytes) {
    const run = bytes.readUInt32LE(from)
    left -= run
    if (run === 0 || left < 0) return false
    extents.add(run, bytes.readUInt32LE(from + 4) & flagsKnown)
  }
  return true
}
