import { StorageError, type Code } from '../base/errors.ts'
import { MiB } from '../base/size.ts'
import { isChange, Operation, Request, type Completer } from '../device/request.ts'
import { LossReport } from '../device/loss-report.ts'
import { stagedPayloadMax } from '../net/inbox.ts'
import type { Export } from '../export/export.ts'
import type { Intake, Phase } from '../export/intake.ts'
import type { Guests } from '../export/claims.ts'
import { beyondAll, deviceFlags, replyOverheadBytes, roomOf, replyRunsMax } from './asking.ts'
import * as codec from './codec.ts'
import { ChunkType, Command, CommandFlag, Errno } from './codec.ts'
import type { ServerConnection } from './connection.ts'
import { TransmissionFlag } from './options.ts'
import { whyRefused } from './refusal.ts'
import { errnoOf } from './errno.ts'

/** Characters of an error's message; four bytes each at most, so it fits the overhead. */
const messageCharactersMax = 120

/** Bytes of a refused write that are read and dropped: no known client ever sends more. */
const refusedPayloadMax = 64 * MiB

/** How a request is answered; its `context`. */
const Answer = { data: 0, blockStatus: 1, oneBlockStatus: 2, nothing: 3 } as const

/** The operation of each command, by its number. A cache request reads, and drops what it read. */
const operationOf: readonly Operation[] = [
  Operation.read,
  Operation.write,
  Operation.flush,
  Operation.flush,
  Operation.trim,
  Operation.read,
  Operation.writeZeroes,
  Operation.status,
]

/** What the negotiation came to. */
export interface Agreement {
  readonly structured: boolean
  /** Whether the client may ask for `base:allocation`. */
  readonly allocation: boolean
  /** Bytes of the longest read or write; a multiple of the device's block size. */
  readonly payloadMax: number
  /** Bits of `TransmissionFlag`. */
  readonly flags: number
}

/**
 * Requests of one connection, carried out on the export's device and answered in whatever order
 * they complete. A request that makes no sense is answered with an error and the stream goes on.
 */
export class Transmission implements Phase, Completer {
  readonly waits = false
  private readonly host: ServerConnection
  private readonly intake: Intake
  private readonly exported: Export
  private readonly agreed: Agreement
  private readonly readOnly: boolean
  /** The flags that each command may have, by its number. */
  private readonly flagsOf: readonly number[]
  private readonly header = new codec.RequestHeader()
  /** Why a write is refused whose payload has yet to be taken in; the header is still its own. */
  private refused: Code | null = null
  private readonly losses: LossReport
  private readonly guests: Guests

  constructor(host: ServerConnection, exported: Export, agreed: Agreement) {
    this.host = host
    this.exported = exported
    this.intake = host.intake
    this.losses = new LossReport(exported.device)
    this.guests = host.context.claims.guestsOf(exported.device)
    this.agreed = agreed
    this.readOnly = (agreed.flags & TransmissionFlag.readOnly) !== 0
    // Known clients set FUA on any command once they may, though it means something to few.
    const fua = (agreed.flags & TransmissionFlag.fua) !== 0 ? CommandFlag.fua : 0
    const df = this.agreed.structured ? CommandFlag.df : 0
    const zeroes = CommandFlag.noHole | CommandFlag.fastZero
    this.flagsOf = [fua | df, fua, 0xffff, fua, fua, fua, fua | zeroes, fua | CommandFlag.reqOne]
  }

  sent(): void {
    // Nothing waits for bytes to leave.
  }

  closed(): void {
    if (this.refused !== null) this.intake.room.giveBack(replyOverheadBytes)
    this.host.closed()
  }

  completed(request: Request): void {
    const { intake } = this
    intake.inFlight--
    if (isChange(request.operation)) this.guests.ended()
    if (intake.over) intake.room.giveBack(roomOf(request.operation, request.length))
    else this.reply(request)
    request.release()
    intake.answered()
  }

  /** Takes in the next request; false when there is none yet, or no room for it. */
  step(): boolean {
    const { intake } = this
    const { inbox } = intake
    if (this.refused !== null) return inbox.skip(0) && this.answerRefused(this.refused)
    if (!inbox.need(codec.requestBytes)) return false
    const { header } = this
    if (header.decode(inbox.bytes, inbox.at) !== null) return this.drop('wrong magic of a request')
    const { type, length } = header
    if (type === Command.disconnect) {
      intake.drain()
      return false
    }
    if (intake.mustRest(length)) return false
    const refusal = this.refuse()
    const operation = refusal === null ? operationOf[type]! : Operation.flush
    const taken = type === Command.cache ? Math.min(length, this.agreed.payloadMax) : length
    const staged = type === Command.write && refusal === null && length <= stagedPayloadMax
    if (staged && !inbox.need(codec.requestBytes + length)) return false
    if (!intake.reserve(operation, taken)) return false
    inbox.consume(codec.requestBytes)
    if (refusal !== null)
      return type === Command.write ? this.skipRefused(refusal) : this.answerRefused(refusal)
    return this.take(operation, taken)
  }

  /** Asks the guests here, not earlier: a head may claim the device while a payload lands. */
  arrived(request: Request): void {
    const { guests } = this
    const { device } = this.exported
    if (isChange(request.operation)) {
      guests.began()
      if (!guests.mayChange()) {
        this.intake.inFlight++
        request.fail(new StorageError('READ_ONLY', 'the device is claimed', device.path))
        return
      }
    }
    this.intake.submit(request, device)
  }

  /** Makes the request of the header and submits it, unless its payload has yet to land. */
  private take(operation: Operation, length: number): boolean {
    const { type, flags, offset, cookieHigh, cookieLow } = this.header
    const request = Request.take(operation, offset, length, deviceFlags(type, flags), this)
    request.tag = cookieLow
    request.tagHigh = cookieHigh
    if (type === Command.read) request.context = Answer.data
    else if (type === Command.blockStatus)
      request.context =
        (flags & CommandFlag.reqOne) !== 0 ? Answer.oneBlockStatus : Answer.blockStatus
    else request.context = Answer.nothing
    if (type === Command.write) return this.intake.land(request, length)
    this.arrived(request)
    return true
  }

  /**
   * What is wrong with the request beyond what the device itself refuses: what the client may not
   * do here, and what must be known before a payload is taken in.
   */
  private refuse(): Code | null {
    const { type, flags, offset, length } = this.header
    const allowed = this.flagsOf[type]
    if (allowed === undefined || (flags & ~allowed) !== 0) return 'INVALID'
    switch (type) {
      case Command.read:
        return length > this.agreed.payloadMax ? 'TOO_LARGE' : beyondAll(offset)
      case Command.write:
        if (this.readOnly) return 'READ_ONLY'
        if (length === 0) return 'INVALID'
        return length > this.agreed.payloadMax ? 'TOO_LARGE' : beyondAll(offset)
      case Command.trim:
      case Command.writeZeroes:
        return this.readOnly ? 'READ_ONLY' : beyondAll(offset)
      case Command.cache:
        return offset + length > this.exported.device.facts!.size ? 'RANGE' : null
      case Command.blockStatus:
        return this.agreed.allocation ? beyondAll(offset) : 'INVALID'
      default:
        return offset !== 0 || length !== 0 ? 'INVALID' : null
    }
  }

  /** Takes the payload in before the answer: some clients read nothing while they send. */
  private skipRefused(code: Code): boolean {
    const { length } = this.header
    this.refused = code
    if (length > refusedPayloadMax) return this.drop('payload far too long')
    return this.intake.skip(length) && this.answerRefused(code)
  }

  private answerRefused(code: Code): true {
    const { type, flags, cookieHigh, cookieLow } = this.header
    const { outbox } = this.intake
    this.refused = null
    const before = outbox.bytesQueued
    const tooLong = code === 'TOO_LARGE' && type === Command.read && this.agreed.structured
    const operation = operationOf[type] ?? Operation.flush
    const errno = tooLong ? Errno.EOVERFLOW : errnoOf(code, operation, deviceFlags(type, flags))
    const { payloadMax } = this.agreed
    const { size } = this.exported.device.facts!
    const bounds = { payloadMax, size, flags: this.flagsOf[type] }
    this.replyError(cookieHigh, cookieLow, errno, whyRefused(code, this.header, bounds))
    this.intake.room.giveBack(replyOverheadBytes - (outbox.bytesQueued - before))
    return true
  }

  /** Answers the request; what is queued takes the place of what was reserved for it. */
  private reply(request: Request): void {
    const { outbox, room } = this.intake
    const before = outbox.bytesQueued
    if (request.operation === Operation.flush) this.losses.tell(request)
    this.encode(request)
    room.giveBack(roomOf(request.operation, request.length) - (outbox.bytesQueued - before))
  }

  private encode(request: Request): void {
    const { tag, tagHigh, error, operation, flags } = request
    if (error !== null) {
      this.replyError(tagHigh, tag, errnoOf(error.code, operation, flags), error.message)
      return
    }
    const { outbox } = this.intake
    const answer = request.context as number
    if (answer === Answer.data) {
      const { length, offset } = request
      if (this.agreed.structured) {
        const at = outbox.reserve(codec.dataChunkBytes)
        const { bytes } = outbox
        const type = ChunkType.offsetData
        codec.encodeChunk(bytes, at, codec.chunkDone, type, tagHigh, tag, 8 + length)
        codec.writeUInt64(bytes, at + codec.chunkHeaderBytes, offset)
      } else this.replySimply(tagHigh, tag, Errno.none)
      outbox.payload(request)
    } else if (answer === Answer.nothing) this.replySimply(tagHigh, tag, Errno.none)
    else this.replyBlockStatus(request, answer === Answer.oneBlockStatus ? 1 : replyRunsMax)
  }

  private replySimply(cookieHigh: number, cookieLow: number, errno: number): void {
    const { outbox } = this.intake
    const at = outbox.reserve(codec.simpleReplyBytes)
    codec.encodeSimpleReply(outbox.bytes, at, errno, cookieHigh, cookieLow)
  }

  private replyBlockStatus(request: Request, runsMax: number): void {
    const { outbox } = this.intake
    const { extents, tag, tagHigh } = request
    const runs = Math.min(extents.lengths.length, runsMax)
    const payload = codec.blockStatusPayloadBytes(runs)
    const at = outbox.reserve(codec.chunkHeaderBytes + payload)
    const { bytes } = outbox
    const type = ChunkType.blockStatus
    codec.encodeChunk(bytes, at, codec.chunkDone, type, tagHigh, tag, payload)
    codec.encodeBlockStatus(bytes, at + codec.chunkHeaderBytes, 1, extents, runs)
  }

  private replyError(cookieHigh: number, cookieLow: number, errno: number, message: string): void {
    const { outbox } = this.intake
    if (!this.agreed.structured) {
      this.replySimply(cookieHigh, cookieLow, errno)
      return
    }
    const text = message.slice(0, messageCharactersMax)
    const textBytes = Buffer.byteLength(text)
    const payload = codec.errorPayloadBytes(textBytes)
    const at = outbox.reserve(codec.chunkHeaderBytes + payload)
    const { bytes } = outbox
    const type = ChunkType.error
    codec.encodeChunk(bytes, at, codec.chunkDone, type, cookieHigh, cookieLow, payload)
    codec.encodeErrorPayload(bytes, at + codec.chunkHeaderBytes, errno, textBytes)
    bytes.write(text, at + codec.chunkHeaderBytes + codec.errorPayloadBytes(0), 'utf8')
  }

  private drop(why: string): false {
    this.host.fail(new StorageError('PROTOCOL', why))
    return false
  }
}
