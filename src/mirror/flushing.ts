import { systemError } from '../base/errors.ts'
import { failed } from './departure.ts'
import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

/**
 * Flushes a leg for the mirror itself. Rejects when that failed, once it is decided what becomes of
 * the leg: it left, or the run ended; or it is the last, lost nothing, and stays.
 */
export async function flushLeg(volume: Volume, leg: Leg): Promise<void> {
  const { epoch, intent } = volume
  const { moment } = intent
  const before = leg.device.flushError
  try {
    await leg.flush()
  } catch (cause) {
    // By then the leg has left for it, which says less.
    const { flushError, path } = leg.device
    const failure = flushError === before ? cause : flushError
    const error = systemError(failure, 'flushing', path)
    if (volume.epoch === epoch) failed(volume, leg, 'flush', error)
    throw error
  }
  if (volume.epoch === epoch) leg.hasFlushed(moment)
}

/** Flushes every leg that has not flushed what settled by `moment`; rejects if the last fails. */
export async function flushLegs(volume: Volume, moment: number): Promise<void> {
  const flush = async (leg: Leg): Promise<void> => {
    try {
      await flushLeg(volume, leg)
    } catch (error) {
      if (volume.writers.includes(leg)) throw error
    }
  }
  await Promise.all(volume.writers.filter((leg) => leg.flushedMoment < moment).map(flush))
}
