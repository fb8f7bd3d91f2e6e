import type { Clock } from './clock.ts'
import { StorageError } from './errors.ts'

/** Milliseconds after which an answer that should come at once counts as hanging. */
export const answerMs = 10_000

/**
 * Settles as the promise does, or rejects with TIMEOUT after `answerMs`; the message says that
 * `who` does not answer. A later outcome of the promise is ignored.
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
