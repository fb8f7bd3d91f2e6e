import type { Clock } from './clock.ts'
import { StorageError } from './errors.ts'

/** Milliseconds that are waited for what should be there at once, before it counts as hanging. */
export const answerMs = 10_000

/**
 * The promise's outcome, if it comes within `answerMs`; rejects with TIMEOUT otherwise, naming
 * `who` does not answer. What becomes of the promise later is told to nobody.
 */
export function inTime<T>(clock: Clock, promise: Promise<T>, who: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.timer(answerMs, () => {
      reject(new StorageError('TIMEOUT', `${who} does not answer`))
    })
    promise.then(resolve, reject).finally(() => {
      timer.cancel()
    })
  })
}
