import type { Slab } from '../base/slab.ts'
import { Operation, type Request } from '../device/request.ts'
import type { Outbox } from '../net/outbox.ts'
import type { Room } from '../export/admission.ts'
import { checksumOf, encodeReply, Kind, newReplyHeader, replyBytes } from './codec.ts'
import { encodeFacts, encodeText, factsBytes, textBytesMax, type WireFacts } from './hello.ts'
import { encodeRuns, runBytes, runsMax } from './runs.ts'
import { statusOk } from './status.ts'

/** Bytes reserved for a reply beside its payload: a header, and the sentence of one that failed. */
export const replyOverheadBytes = textBytesMax + 64

/** Bytes reserved for a request: its payload, and what is sent beside it. */
export function roomOf(operation: Operation, length: number): number {
  if (operation <= Operation.write) return length + replyOverheadBytes
  if (operation === Operation.status) return runsMax * runBytes + replyOverheadBytes
  return replyOverheadBytes
}

const noSegments: readonly Buffer[] = []

/** Writes what a server says on one connection to its outbox, and counts the bytes. */
export class Replies {
  checksums = false
  private readonly outbox: Outbox
  private readonly room: Room
  private readonly slab: Slab
  private readonly header = newReplyHeader()

  /** Replies count in `room`, where most of their bytes were reserved with the request. */
  constructor(outbox: Outbox, room: Room, slab: Slab) {
    this.outbox = outbox
    this.room = room
    this.slab = slab
  }

  /** Answers a request, whose slot is its `tag` and whose sequence number its `tagHigh`. */
  completed(request: Request, status: number): void {
    const { tag: slot, tagHigh: sequence, operation, error } = request
    const before = this.outbox.bytesQueued
    if (error !== null) this.text(status, slot, sequence, error.message)
    else if (operation === Operation.read) this.read(request)
    else if (operation === Operation.status) this.runs(request)
    else this.bare(Kind.reply, status, slot, sequence)
    this.settle(roomOf(operation, request.length), before)
  }

  /** Answers what no device was asked; room was reserved as for a flush. */
  answer(status: number, slot: number, sequence: number, sentence?: string): void {
    const before = this.outbox.bytesQueued
    if (sentence === undefined) this.bare(Kind.reply, status, slot, sequence)
    else this.text(status, slot, sequence, sentence)
    this.settle(replyOverheadBytes, before)
  }

  /** Answers a ping; room was reserved as for `answer`. */
  pong(slot: number, sequence: number): void {
    this.bare(Kind.pong, statusOk, slot, sequence)
    this.settle(replyOverheadBytes, this.outbox.bytesQueued - replyBytes)
  }

  /** Asks the client whether it is there. */
  ping(): void {
    this.bare(Kind.ping, statusOk, 0, 0)
    this.room.charge(replyBytes)
  }

  /** Says that the session was outbid with this fence number. */
  fenced(fence: number): void {
    const text = Buffer.from(`${fence}`)
    const at = this.outbox.reserve(replyBytes + text.length)
    text.copy(this.outbox.bytes, at + replyBytes)
    this.head(Kind.fenced, statusOk, 0, 0)
    this.encode(at, text.length, [text])
    this.room.charge(replyBytes + text.length)
  }

  /** Says what the device is now. */
  facts(facts: WireFacts): void {
    const at = this.outbox.reserve(replyBytes + factsBytes)
    const { bytes } = this.outbox
    encodeFacts(bytes, at + replyBytes, facts)
    const body = [bytes.subarray(at + replyBytes, at + replyBytes + factsBytes)]
    this.head(Kind.facts, statusOk, 0, 0)
    this.encode(at, factsBytes, body)
    this.room.charge(replyBytes + factsBytes)
  }

  /** What was queued beyond `before` takes the place of what was reserved for it. */
  private settle(reserved: number, before: number): void {
    const bytes = this.outbox.bytesQueued - before
    if (bytes > reserved) this.room.charge(bytes - reserved)
    else this.room.giveBack(reserved - bytes)
  }

  /** A message without payload. */
  private bare(kind: number, status: number, slot: number, sequence: number): void {
    this.head(kind, status, slot, sequence)
    this.encode(this.outbox.reserve(replyBytes), 0, noSegments)
  }

  /** A reply with a text: a sentence for people, or the answer to a question. */
  private text(status: number, slot: number, sequence: number, sentence: string): void {
    const text = encodeText(sentence)
    const at = this.outbox.reserve(replyBytes + text.length)
    text.copy(this.outbox.bytes, at + replyBytes)
    this.head(Kind.reply, status, slot, sequence)
    this.encode(at, text.length, [text])
  }

  private read(request: Request): void {
    // Bytes without a lease may be written to before they have left, so that a checksum needs a
    // copy of them. A linear may mix them with bytes that have one.
    if (this.checksums && request.leases.length < request.segments.length)
      copyOut(request, this.slab)
    const at = this.outbox.reserve(replyBytes)
    this.head(Kind.reply, statusOk, request.tag, request.tagHigh)
    this.encode(at, request.length, request.segments)
    this.outbox.payload(request)
  }

  private runs(request: Request): void {
    const { extents } = request
    const runs = Math.min(extents.lengths.length, runsMax)
    const at = this.outbox.reserve(replyBytes + runs * runBytes)
    const { bytes } = this.outbox
    const from = at + replyBytes
    encodeRuns(bytes, from, extents, runs)
    const body = [bytes.subarray(from, from + runs * runBytes)]
    this.head(Kind.reply, statusOk, request.tag, request.tagHigh)
    this.encode(at, runs * runBytes, body)
  }

  /** Says what the next header is about, but for its payload. */
  private head(kind: number, status: number, slot: number, sequence: number): void {
    const { header } = this
    header.kind = kind
    header.status = status
    header.slot = slot
    header.sequence = sequence
  }

  /** Writes the header at `at` of the outbox for a payload of so many bytes, and schedules it. */
  private encode(at: number, payload: number, body: readonly Buffer[]): void {
    const { header, checksums } = this
    header.payload = payload
    header.payloadChecksum = checksums ? checksumOf(body) : 0
    encodeReply(this.outbox.bytes, at, header, checksums)
    this.outbox.schedule()
  }
}

function copyOut(request: Request, slab: Slab): void {
  const block = slab.take(request.length)
  request.copyTo(block.bytes)
  request.dropSegments()
  request.append(block.bytes.subarray(0, request.length), block)
}
