import { systemError, type StorageError } from '../../base/errors.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'

/**
 * Flushes a leg for the mirror itself. Rejects if that failed, after it was decided what becomes of
 * the leg: it left, or the run ended; or it is the last one, lost nothing, and stays.
 */
export async function flushLeg({ membership }: Volume, leg: Leg): Promise<void> {
  const error = await membership.flush(leg, 'client')
  if (error !== null) throw error
}

/** Flushes a leg. Resolves to the error if that failed, otherwise to null; never rejects. */
export async function flushed(leg: Leg): Promise<StorageError | null> {
  const before = leg.device.flushError
  try {
    await leg.flush()
    return null
  } catch (cause) {
    // The leg may have left because of it; then the device's own error says more.
    const { flushError, path } = leg.device
    return systemError(flushError === before ? cause : flushError, 'flushing', path)
  }
}

/**
 * Like `flushed`, for a leg that was copied to; then also flushes the legs it was copied from. A
 * disk of these may have dropped what it could not write: it reports that now and leaves, and the
 * copy is repeated.
 */
export async function flushedCopies(volume: Volume, leg: Leg): Promise<StorageError | null> {
  const error = await flushed(leg)
  if (error === null) await vouch(volume, volume.readable)
  return error
}

/**
 * Flushes the legs and resolves to whether what was read from them may be written to others. A disk
 * may have dropped what it could not write and still have read as before; it reports that at the
 * next flush, and leaves.
 */
export async function vouch(volume: Volume, legs: readonly Leg[]): Promise<boolean> {
  const { membership } = volume
  const errors = await Promise.all(legs.map((leg) => membership.flush(leg, 'client')))
  return errors.every((error) => error === null) && areReadable(volume, legs)
}

/** Whether it is durable of all these legs that they are in sync. */
export function areReadable({ readable }: Volume, legs: readonly Leg[]): boolean {
  return legs.every((leg) => readable.includes(leg))
}
