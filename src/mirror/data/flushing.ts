import { systemError, type StorageError } from '../../base/errors.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'

/**
 * Flushes a leg for the mirror itself. Rejects when that failed, once it is decided what becomes of
 * the leg: it left, or the run ended; or it is the last, lost nothing, and stays.
 */
export async function flushLeg({ membership }: Volume, leg: Leg): Promise<void> {
  const error = await membership.flush(leg, 'client')
  if (error !== null) throw error
}

/** Flushes a leg; resolves with what that failed with. */
export async function flushed(leg: Leg): Promise<StorageError | null> {
  const before = leg.device.flushError
  try {
    await leg.flush()
    return null
  } catch (cause) {
    // By then the leg has left for it, which says less.
    const { flushError, path } = leg.device
    return systemError(flushError === before ? cause : flushError, 'flushing', path)
  }
}

/**
 * The same of a leg that was copied to. The disk of one that it was copied from may have dropped
 * what it could not write: it says so now, and leaves, and the copy is made again.
 */
export async function flushedCopies(volume: Volume, leg: Leg): Promise<StorageError | null> {
  const error = await flushed(leg)
  if (error === null) await vouch(volume, volume.readable)
  return error
}

/**
 * Whether what was read from the legs may be written to others. The disk of one may have dropped
 * what it could not write, and read as before since; it says so at the next flush, and leaves.
 */
export async function vouch(volume: Volume, legs: readonly Leg[]): Promise<boolean> {
  const { membership } = volume
  const errors = await Promise.all(legs.map((leg) => membership.flush(leg, 'client')))
  return errors.every((error) => error === null) && areReadable(volume, legs)
}

export function areReadable({ readable }: Volume, legs: readonly Leg[]): boolean {
  return legs.every((leg) => readable.includes(leg))
}
