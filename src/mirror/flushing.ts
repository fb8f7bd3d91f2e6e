import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

/**
 * Flushes a leg for the mirror itself. Rejects when that failed, once it is decided what becomes of
 * the leg: it left, or the run ended; or it is the last, lost nothing, and stays.
 */
export async function flushLeg({ membership }: Volume, leg: Leg): Promise<void> {
  const error = await membership.flush(leg, 'client')
  if (error !== null) throw error
}
