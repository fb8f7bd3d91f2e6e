import { StorageError } from '../base/errors.ts'
import { legPatience } from './settings.ts'
import type { Volume } from './volume.ts'

/**
 * The promise's outcome, if it comes within `ms`: as a rule, while a leg that is slow would not be
 * given up yet. Rejects with TIMEOUT otherwise, and what becomes of the promise is told to nobody.
 */
export function within<T>(
  volume: Volume,
  promise: Promise<T> | undefined,
  ms = volume.settings.legTimeoutMs * legPatience,
): Promise<T | undefined> {
  if (promise === undefined) return Promise.resolve(undefined)
  return new Promise((resolve, reject) => {
    const timer = volume.clock.timer(ms, () => {
      reject(new StorageError('TIMEOUT', 'no answer', volume.path))
    })
    const done = (): void => {
      timer.cancel()
    }
    promise.then(resolve, reject).finally(done)
  })
}

/** The same of the head's own store: what hangs there is waited for as long as what fails. */
export function stored<T>(volume: Volume, promise: Promise<T> | undefined): Promise<T | undefined> {
  return within(volume, promise, volume.settings.suspendMs)
}
