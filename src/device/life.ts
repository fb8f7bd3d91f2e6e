import type { Code, StorageError } from '../base/errors.ts'
import type { Completer, Request } from './request.ts'

/** The part of a device that the lives of its cache use. */
interface Living {
  ended(request: Request, life: CacheLife): void
}

/**
 * The rule for a failed flush, the same for every device and every sender: a client, a forced
 * write, a layer for itself. Changes that were not flushed count as lost, because a kernel drops
 * what it could not write and succeeds the next time. A restart loses the same, so the device
 * announces it in the same way: with another `Facts.bootId`.
 *
 * Changes under way at that time may be lost, too. So a request completes under the life of the
 * cache that it was submitted in, and a change that ends in a later life fails.
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

/** Codes of requests that were carried out and failed; others were refused or not answered. */
export const failures: ReadonlySet<Code> = new Set(['IO', 'NO_SPACE', 'READ_ONLY'])

/**
 * True if a flush or a forced change with this error may have lost unflushed changes. One without
 * an answer may have, too: then the device shows it by its boot id when it is back.
 */
export function mayHaveLost(error: StorageError): boolean {
  return failures.has(error.code)
}
