import type { Slab } from '../base/slab.ts'
import { Operation, type Request } from '../device/request.ts'
import type { Outbox } from '../net/outbox.ts'
import { checksumOf, encodeReply, Kind, newReplyHeader, replyBytes } from './codec.ts'
import { encodeFacts, encodeText, factsBytes, type WireFacts } from './hello.ts'
import { encodeRuns, runBytes, runsMax } from './runs.ts'
import { statusOk } from './status.ts'

const noSegments: readonly Buffer[] = []

/** What a server says on one connection: headers and small payloads go straight to its outbox. */
export class Replies {
  checksums = false
  private readonly outbox: Outbox
  private readonly slab: Slab
  private readonly header = newReplyHeader()

  constructor(outbox: Outbox, slab: Slab) {
    this.outbox = outbox
    this.slab = slab
  }

  /** The answer to a request, whose slot is its `tag` and whose sequence number its `tagHigh`. */
  completed(request: Request, status: number): void {
    const { tag: slot, tagHigh: sequence, operation, error } = request
    if (error !== null) this.text(status, slot, sequence, error.message)
    else if (operation === Operation.read) this.read(request)
    else if (operation === Operation.status) this.runs(request)
    else this.bare(Kind.reply, status, slot, sequence)
  }

  /** A message without payload. */
  bare(kind: number, status: number, slot: number, sequence: number): void {
    this.encode(this.outbox.reserve(replyBytes), kind, status, slot, sequence, 0, noSegments)
  }

  /** A reply that says something to people, or is a text itself. */
  text(status: number, slot: number, sequence: number, sentence: string): void {
    const text = encodeText(sentence)
    const at = this.outbox.reserve(replyBytes + text.length)
    text.copy(this.outbox.bytes, at + replyBytes)
    this.encode(at, Kind.reply, status, slot, sequence, text.length, [text])
  }

  /** The session was outbid, with this epoch. */
  fenced(epoch: number): void {
    const text = Buffer.from(`${epoch}`)
    const at = this.outbox.reserve(replyBytes + text.length)
    text.copy(this.outbox.bytes, at + replyBytes)
    this.encode(at, Kind.fenced, statusOk, 0, 0, text.length, [text])
  }

  facts(facts: WireFacts): void {
    const at = this.outbox.reserve(replyBytes + factsBytes)
    const { bytes } = this.outbox
    encodeFacts(bytes, at + replyBytes, facts)
    const body = [bytes.subarray(at + replyBytes, at + replyBytes + factsBytes)]
    this.encode(at, Kind.facts, statusOk, 0, 0, factsBytes, body)
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
