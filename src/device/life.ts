import type { Code, StorageError } from '../base/errors.ts'
import type { Completer, Request } from './request.ts'

/** A device, as the lives of its cache see it. */
interface Living {
  ended(request: Request, life: CacheLife): void
}

/**
 * The rule for a failed flush, the same for every device and wherever the flush was sent: by a
 * client, behind a forced write, by a layer for itself. What the device had not flushed is lost,
 * because a kernel drops what it could not write and succeeds the next time. That is what a restart
 * does as well, so the device announces it in the same way: with another `Facts.bootId`.
 *
 * What was under way then may be among it. So each request is told under the life of the cache that
 * it was submitted in, and a change that ends in a later one fails.
 */
export class CacheLife implements Completer {
  private readonly device: Living

  constructor(device: Living) {
    this.device = device
  }

  completed(request: Request): void {
    this.device.ended(request, this)
  }
}

/** Codes of a request that was carried out and failed: others were refused, or not answered. */
export const failures: ReadonlySet<Code> = new Set(['IO', 'NO_SPACE', 'READ_ONLY'])

/**
 * Whether a flush, or a forced change, that ended so may have lost what was not flushed. One that
 * was not answered may have as well: then the device tells by its boot id when it is back.
 */
export function mayHaveLost(error: StorageError): boolean {
  return failures.has(error.code)
}
