import type { Export, Exports } from '../export/export.ts'
import * as options from './options.ts'
import { Option, Reply } from './options.ts'

/**
 * The answer to LIST: the same bytes for all clients, made anew only when they would differ. So
 * clients that ask and do not read hold nothing of their own.
 */
export class Listing {
  private readonly exports: Exports
  private told: readonly Export[] = []
  private replies: Buffer | null = null

  constructor(exports: Exports) {
    this.exports = exports
  }

  /** The bytes never change, so that `Outbox.lend` may have them. */
  get bytes(): Buffer {
    // An export whose device was never there has no size yet: clients that look at each export
    // would show none at all.
    const known = this.exports.list().filter(({ device }) => device.facts !== null)
    if (this.replies === null || !same(known, this.told)) {
      this.told = known
      this.replies = encode(known)
    }
    return this.replies
  }
}

function same(some: readonly Export[], others: readonly Export[]): boolean {
  return some.length === others.length && some.every((each, at) => each === others[at])
}

function encode(exports: readonly Export[]): Buffer {
  const replies = exports.map((each) =>
    options.encodeOptionReply(Option.list, Reply.server, options.encodeServer(each)),
  )
  replies.push(options.encodeOptionReply(Option.list, Reply.ack, Buffer.alloc(0)))
  return Buffer.concat(replies)
}
