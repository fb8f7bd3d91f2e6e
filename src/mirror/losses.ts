import { StorageError } from '../base/errors.ts'
import { isQuestion } from './data/parking.ts'
import type { Volume } from './volume.ts'

/** The volume starts again as one that forgot something: what waits was meant for the other. */
export function failParkedChanges(volume: Volume, reason: string): void {
  for (const { request, deadline } of volume.parking.takeAll()) {
    if (isQuestion(request)) volume.parking.add(request, deadline)
    else request.fail(new StorageError('STALE', reason, volume.path))
  }
}
