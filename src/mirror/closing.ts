import type { Volume } from './volume.ts'

/** The last entry of the history of a volume that was closed, and not left by a head that died. */
export const closed = 'closed'

/**
 * Closes the volume. Leaves every leg flushed and the intent log empty, so that the next start
 * copies nothing. Never rejects; a failure is logged.
 */
export async function close(volume: Volume): Promise<void> {
  if (volume.running) {
    for (const [, resync] of volume.resyncs) resync.stop('the volume is closed')
    volume.verifying?.stop('legs')
    try {
      await volume.intent.empty()
      volume.remember('start', '', closed)
      volume.membership.request('record')
      await volume.membership.settled()
    } catch (error) {
      volume.log.warn({ volume: volume.path, err: error }, `${volume.path} was not closed cleanly`)
    }
  }
  volume.end()
}
