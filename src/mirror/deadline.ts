import { StorageError } from '../base/errors.ts'
import { legPatience } from './settings.ts'
import type { Volume } from './volume.ts'

/**
 * The outcome of the promise, if it comes within `ms`: by default the time after which a slow leg
 * would be given up. Rejects with TIMEOUT otherwise; a later outcome is dropped. Resolves to
 * undefined without a promise.
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

/**
 * The same for the head's own store: a call that hangs is waited for as long as one that fails is
 * tried again.
 */
export function stored<T>(volume: Volume, promise: Promise<T> | undefined): Promise<T | undefined> {
  return within(volume, promise, volume.settings.suspendMs)
}
