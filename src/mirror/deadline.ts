import { StorageError } from '../base/errors.ts'
import { legPatience } from './settings.ts'
import type { Volume } from './volume.ts'

/** The promise's outcome, if it comes while a leg that is slow would not be given up yet. */
export function within<T>(volume: Volume, promise: Promise<T> | undefined): Promise<T | undefined> {
  if (promise === undefined) return Promise.resolve(undefined)
  return new Promise((resolve, reject) => {
    const timer = volume.clock.timer(volume.settings.legTimeoutMs * legPatience, () => {
      reject(new StorageError('TIMEOUT', 'no answer', volume.path))
    })
    const done = (): void => {
      timer.cancel()
    }
    promise.then(resolve, reject).finally(done)
  })
}
