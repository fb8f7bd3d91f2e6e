import type { Exports } from '../export/export.ts'
import type { Listing } from './hello.ts'

/** What a listing tells of the exports that a client sees. */
export function listingsOf(exports: Exports): readonly Listing[] {
  return exports.list().map(({ name, description, device, readOnly }) => ({
    name,
    description,
    size: device.facts?.size ?? 0,
    readOnly: readOnly || device.facts?.readOnly === true,
    usable: device.usable,
  }))
}
