import type { Exports } from '../export/export.ts'
import * as options from './options.ts'
import { Option, Reply, type ExportListing } from './options.ts'

/** What LIST tells of the exports that a client sees. */
export function listingsOf(exports: Exports): readonly ExportListing[] {
  // An export whose device was never there has no size yet: clients that look at each export would
  // show none at all.
  const known = exports.list().filter(({ device }) => device.facts !== null)
  return known.map(({ name, description }) => ({ name, description }))
}

/** The replies to LIST: one for each export, and the last. */
export function encodeListings(exports: readonly ExportListing[]): Buffer {
  const replies = exports.map((each) =>
    options.encodeOptionReply(Option.list, Reply.server, options.encodeServer(each)),
  )
  replies.push(options.encodeOptionReply(Option.list, Reply.ack, Buffer.alloc(0)))
  return Buffer.concat(replies)
}
