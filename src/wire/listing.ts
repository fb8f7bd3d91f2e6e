import { isDeepStrictEqual } from 'node:util'
import type { Exports } from '../export/export.ts'
import { encodeListing, type Listing } from './hello.ts'

/**
 * The answer to a hello that asks for the exports: the same bytes for all clients, made anew only
 * when they would differ. So clients that ask and do not read hold nothing of their own.
 */
export class SharedListing {
  private readonly exports: Exports
  private told: readonly Listing[] = []
  private encoded: Buffer | null = null

  constructor(exports: Exports) {
    this.exports = exports
  }

  /** The bytes never change, so that `Outbox.lend` may have them. */
  get bytes(): Buffer {
    const listing = this.exports.list().map(({ name, description, device, readOnly }) => ({
      name,
      description,
      size: device.facts?.size ?? 0,
      readOnly: readOnly || device.facts?.readOnly === true,
      usable: device.usable,
    }))
    if (this.encoded === null || !isDeepStrictEqual(listing, this.told)) {
      this.told = listing
      this.encoded = encodeListing(listing)
    }
    return this.encoded
  }
}
