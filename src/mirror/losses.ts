import { StorageError } from '../base/errors.ts'
import { isQuestion } from './data/parking.ts'
import type { Volume } from './volume.ts'

/**
 * Fails the changes that wait with STALE, because the volume starts again without something that it
 * had, and they were meant for the volume as it was. Reads go on waiting.
 */
export function failParkedChanges(volume: Volume, reason: string): void {
  for (const { request, deadline } of volume.parking.takeAll()) {
    if (isQuestion(request)) volume.parking.add(request, deadline)
    else request.fail(new StorageError('STALE', reason, volume.path))
  }
}
