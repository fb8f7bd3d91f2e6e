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

/** What a server says on one connection: headers and small payloads go straight to its outbox. */
export class Replies {
  checksums = false
  private readonly outbox: Outbox
  private readonly room: Room
  private readonly slab: Slab
  private readonly header = newReplyHeader()

  /** What is said is counted in `room`, where most of it has its place reserved already. */
  constructor(outbox: Outbox, room: Room, slab: Slab) {
    this.outbox = outbox
    this.room = room
    this.slab = slab
  }

  /** The answer to a request, whose slot is its `tag` and whose sequence number its `tagHigh`. */
  completed(request: Request, status: number): void {
    const { tag: slot, tagHigh: sequence, operation, error } = request
    const before = this.outbox.bytesQueued
    if (error !== null) this.text(status, slot, sequence, error.message)
    else if (operation === Operation.read) this.read(request)
    else if (operation === Operation.status) this.runs(request)
    else this.bare(Kind.reply, status, slot, sequence)
    this.settle(roomOf(operation, request.length), before)
  }

  /** The answer to what no device was asked, for which room was reserved as for a flush. */
  answer(status: number, slot: number, sequence: number, sentence?: string): void {
    const before = this.outbox.bytesQueued
    if (sentence === undefined) this.bare(Kind.reply, status, slot, sequence)
    else this.text(status, slot, sequence, sentence)
    this.settle(replyOverheadBytes, before)
  }

  /** Room was reserved as for `answer`. */
  pong(slot: number, sequence: number): void {
    this.bare(Kind.pong, statusOk, slot, sequence)
    this.settle(replyOverheadBytes, this.outbox.bytesQueued - replyBytes)
  }

  ping(): void {
    this.bare(Kind.ping, statusOk, 0, 0)
    this.room.charge(replyBytes)
  }

  /** The session was outbid, with this epoch. */
  fenced(epoch: number): void {
    const text = Buffer.from(`${epoch}`)
    const at = this.outbox.reserve(replyBytes + text.length)
    text.copy(this.outbox.bytes, at + replyBytes)
    this.encode(at, Kind.fenced, statusOk, 0, 0, text.length, [text])
    this.room.charge(replyBytes + text.length)
  }

  facts(facts: WireFacts): void {
    const at = this.outbox.reserve(replyBytes + factsBytes)
    const { bytes } = this.outbox
    encodeFacts(bytes, at + replyBytes, facts)
    const body = [bytes.subarray(at + replyBytes, at + replyBytes + factsBytes)]
    this.encode(at, Kind.facts, statusOk, 0, 0, factsBytes, body)
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
    this.encode(this.outbox.reserve(replyBytes), kind, status, slot, sequence, 0, noSegments)
  }

  /** A reply that says something to people, or is a text itself. */
  private text(status: number, slot: number, sequence: number, sentence: string): void {
    const text = encodeText(sentence)
    const at = this.outbox.reserve(replyBytes + text.length)
    text.copy(this.outbox.bytes, at + replyBytes)
    this.encode(at, Kind.reply, status, slot, sequence, text.length, [text])
  }

  private read(request: Request): void {
    // Bytes that nobody holds for us may be written to before they have left: a checksum that
    // goes with them has to be that of a copy. A linear may mix them with others.
    if (this.checksums && request.leases.length < request.segments.length)
      copyOut(request, this.slab)
    const at = this.outbox.reserve(replyBytes)
    const { tag: slot, tagHigh: sequence, length, segments } = request
    this.encode(at, Kind.reply, statusOk, slot, sequence, length, segments)
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
    const { tag: slot, tagHigh: sequence } = request
    this.encode(at, Kind.reply, statusOk, slot, sequence, runs * runBytes, body)
  }

  /** Writes a header at `at` of the outbox and has it sent this turn. */
  private encode(
    at: number,
    kind: number,
    status: number,
    slot: number,
    sequence: number,
    payload: number,
    body: readonly Buffer[],
  ): void {
    const { header, checksums } = this
    header.kind = kind
    header.status = status
    header.slot = slot
    header.sequence = sequence
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
