import { StorageError } from '../base/errors.ts'
import { Operation } from '../device/request.ts'
import type { Volume } from './volume.ts'

/**
 * Acknowledged writes are gone with the cache of the last leg: another life of the volume's own
 * cache begins, now or when it runs again. By that whoever serves clients knows.
 */
export function loseWrites(volume: Volume): void {
  volume.forgot = true
  if (!volume.running) return
  renewBoot(volume)
  volume.membership.request(false)
  volume.regroup()
}

/** Carries out what `loseWrites` asked for; making it durable is the caller's. */
export function renewBoot(volume: Volume): void {
  if (volume.forgot) volume.record!.bootId = volume.newId(32)
  volume.forgot = false
}

/** The volume starts again as one that forgot something: what waits was meant for the other. */
export function failParkedChanges(volume: Volume, reason: string): void {
  for (const { request, deadline } of volume.parking.takeAll()) {
    const { operation } = request
    if (operation === Operation.read || operation === Operation.status)
      volume.parking.add(request, deadline)
    else request.fail(new StorageError('STALE', reason, volume.path))
  }
}
