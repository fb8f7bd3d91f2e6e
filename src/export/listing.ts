import { isDeepStrictEqual } from 'node:util'
import type { Exports } from './export.ts'

/**
 * Makes the answer to a client that asks for the exports it sees. Clients that see the same get the
 * same bytes, made anew only when they would differ: those that ask and do not read hold nothing of
 * their own. The bytes never change, so that `Outbox.lend` may have them.
 */
export function sharedListing<Entry>(
  entriesOf: (exports: Exports) => readonly Entry[],
  encode: (entries: readonly Entry[]) => Buffer,
): (exports: Exports) => Buffer {
  const told = new WeakMap<
    Exports,
    { readonly entries: readonly Entry[]; readonly bytes: Buffer }
  >()
  return (exports) => {
    const entries = entriesOf(exports)
    const last = told.get(exports)
    if (last !== undefined && isDeepStrictEqual(entries, last.entries)) return last.bytes
    const bytes = encode(entries)
    told.set(exports, { entries, bytes })
    return bytes
  }
}
