import type { Clock, Timer } from './clock.ts'
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

/** Resolves to true if the promise is fulfilled within `ms` milliseconds; rejects as it does. */
export async function endsWithin(
  clock: Clock,
  promise: Promise<unknown>,
  ms: number,
): Promise<boolean> {
  let timer: Timer | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = clock.timer(ms, () => resolve(false))
  })
  const ended = await Promise.race([promise.then(() => true), late])
  timer?.cancel()
  return ended
}
