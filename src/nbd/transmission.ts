import type { Timer } from '../base/clock.ts'
import { StorageError, type Code } from '../base/errors.ts'
import { MiB } from '../base/size.ts'
import { isChange, Operation, Request, type Completer } from '../device/request.ts'
import { LossReport } from '../device/loss-report.ts'
import { stagedPayloadMax } from '../net/inbox.ts'
import { Stint } from '../net/stint.ts'
import type { Export } from '../export/export.ts'
import { Landing, type Progress } from '../export/landing.ts'
import type { Guests } from '../export/service.ts'
import { beyondAll, deviceFlags, replyOverheadBytes, roomOf, statusRunsMax } from './asking.ts'
import * as codec from './codec.ts'
import { ChunkType, Command, CommandFlag, Errno } from './codec.ts'
import type { Phase, ServerConnection } from './connection.ts'
import { TransmissionFlag } from './options.ts'
import { whyRefused } from './refusal.ts'
import { errnoOf, errnoOfRequest } from './status.ts'

/** Characters of an error's message; four bytes each at most, so it fits the overhead. */
const messageCharactersMax = 120

/** Bytes of a refused write that are read and dropped: no known client ever sends more. */
const refusedPayloadMax = 64 * MiB

/** How a request is answered; its `context`. */
const Answer = { data: 0, status: 1, statusOne: 2, nothing: 3 } as const

/** By command: what is asked of the device. A cache request reads, and drops what it read. */
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

export interface Agreement {
  readonly structured: boolean
  /** Whether the client may ask for `base:allocation`. */
  readonly allocation: boolean
  /** Bytes of the longest read or write; a multiple of the device's block size. */
  readonly payloadMax: number
  /** Of `TransmissionFlag`. */
  readonly flags: number
  /** Bytes of the negotiation that the socket still holds and that nobody reserved. */
  readonly uncounted: number
}

/**
 * Requests of one connection, carried out on the export's device and answered in whatever order
 * they complete. A request that makes no sense is answered with an error and the stream goes on.
 *
 * A request's room (its payload and a reply's overhead) is reserved before it is taken in, a large
 * payload's as it lands, and given back as the reply leaves the socket. Without room the connection
 * is not read.
 */
export class Transmission implements Phase, Completer {
  readonly exportName: string
  inFlight = 0
  private readonly host: ServerConnection
  private readonly exported: Export
  private readonly structured: boolean
  private readonly allocation: boolean
  private readonly payloadMax: number
  private readonly readOnly: boolean
  /** By command: the flags it may have. */
  private readonly flagsOf: readonly number[]
  private readonly header = new codec.RequestHeader()
  /** The write whose payload has yet to land in full. */
  private readonly landing: Landing
  /**
   * How often a payload began to land so far, or went on after it had waited for room; and who
   * looks whether the last one still does.
   */
  private landings = 0
  private landingTimer: Timer | null = null
  private uncounted: number
  private stalledBy: 'nothing' | 'limits' | 'admission' | 'turn' = 'nothing'
  private readonly stint: Stint
  /** Whether the device answered the last read before it returned from it. */
  private prompt = false
  private running = false
  private ending = false
  /** Why a write is refused whose payload has yet to be taken in; the header is still its own. */
  private refused: Code | null = null
  private readonly losses: LossReport
  private readonly guests: Guests | null

  constructor(host: ServerConnection, exported: Export, agreement: Agreement) {
    this.host = host
    this.exported = exported
    this.exportName = exported.name
    this.landing = new Landing(host.inbox, host.room)
    this.losses = new LossReport(exported.device)
    this.guests = host.context.guestsOf?.(exported.device) ?? null
    this.stint = new Stint(host.context.clock, () => {
      if (this.stalledBy === 'turn') this.proceed()
    })
    this.structured = agreement.structured
    this.allocation = agreement.allocation
    this.payloadMax = agreement.payloadMax
    this.readOnly = (agreement.flags & TransmissionFlag.readOnly) !== 0
    this.uncounted = agreement.uncounted
    // Known clients force unit access on anything once they may; it means something to few.
    const fua = (agreement.flags & TransmissionFlag.fua) !== 0 ? CommandFlag.fua : 0
    const df = this.structured ? CommandFlag.df : 0
    const zeroes = CommandFlag.noHole | CommandFlag.fastZero
    this.flagsOf = [fua | df, fua, 0xffff, fua, fua, fua, fua | zeroes, fua | CommandFlag.reqOne]
  }

  run(): void {
    // Requests that complete while they are submitted lead back here.
    if (this.running) return
    this.running = true
    this.stint.begin()
    if (this.landing.request === null || this.land(this.landing.goOn())) while (this.step());
    this.running = false
    this.finishIfDone()
  }

  sent(bytes: number): void {
    const uncounted = Math.min(bytes, this.uncounted)
    this.uncounted -= uncounted
    this.giveBack(bytes - uncounted)
    this.retry()
  }

  drain(): void {
    this.stop()
    this.finishIfDone()
  }

  closed(): void {
    this.ending = true
    this.landingTimer?.cancel()
    const { landing } = this
    if (landing.request !== null) {
      const { rest } = landing
      const request = landing.end()
      this.inFlight--
      this.giveBack(roomOf(Operation.write, request.length) - rest)
      request.abandon()
    }
    if (this.refused !== null) this.giveBack(replyOverheadBytes)
    this.giveBack(this.host.outbox.bytesQueued - this.uncounted)
  }

  admitted(): void {
    if (this.stalledBy !== 'admission') return
    // What it waited for others is not held against it.
    if (this.landing.request !== null) this.landings++
    this.proceed()
  }

  completed(request: Request): void {
    this.inFlight--
    if (this.guests !== null && isChange(request.operation)) this.guests.ended()
    const { host } = this
    const room = roomOf(request.operation, request.length)
    if (!host.open) {
      this.giveBack(room)
      request.release()
      return
    }
    const before = host.outbox.bytesQueued
    this.reply(request)
    this.giveBack(room - (host.outbox.bytesQueued - before))
    request.release()
    if (this.running) return
    host.schedule()
    this.retry()
    this.finishIfDone()
  }

  /** Takes in the next request; false when there is none yet, or no room for it. */
  private step(): boolean {
    const { inbox } = this.host
    if (this.refused !== null) return inbox.skip(0) && this.answerRefused(this.refused)
    if (this.ending || !inbox.need(codec.requestBytes)) return false
    const { header } = this
    if (header.decode(inbox.bytes, inbox.at) !== null) return this.drop('wrong magic of a request')
    const { type, length } = header
    if (type === Command.disconnect) {
      this.stop()
      return false
    }
    if (this.stint.over(length)) return this.stall('turn')
    const refusal = this.refuse()
    const operation = refusal === null ? operationOf[type]! : Operation.flush
    const taken = type === Command.cache ? Math.min(length, this.payloadMax) : length
    const staged = type === Command.write && refusal === null && length <= stagedPayloadMax
    if (staged && !inbox.need(codec.requestBytes + length)) return false
    if (!this.reserve(operation, taken)) return false
    inbox.consume(codec.requestBytes)
    if (refusal !== null)
      return type === Command.write ? this.skipRefused(refusal) : this.answerRefused(refusal)
    return this.take(operation, taken)
  }

  /** Makes the request of the header and submits it, unless its payload has yet to land. */
  private take(operation: Operation, length: number): boolean {
    const { type, flags, offset, cookieHigh, cookieLow } = this.header
    const request = Request.take(operation, offset, length, deviceFlags(type, flags), this)
    request.tag = cookieLow
    request.tagHigh = cookieHigh
    if (type === Command.read) request.context = Answer.data
    else if (type === Command.blockStatus)
      request.context = (flags & CommandFlag.reqOne) !== 0 ? Answer.statusOne : Answer.status
    else request.context = Answer.nothing
    this.inFlight++
    if (type === Command.write) {
      this.landings++
      return this.land(this.landing.begin(request, length))
    }
    const { inFlight } = this
    this.submit(request)
    if (operation === Operation.read) this.prompt = this.inFlight < inFlight
    return true
  }

  /** Submits the write whose payload is here; false when the rest of it has to be waited for. */
  private land(progress: Progress): boolean {
    if (progress === 'here') {
      this.submit(this.landing.end())
      return true
    }
    // It holds a closure, and would allocate for that whenever it is called.
    if (this.landingTimer === null) this.watchLanding()
    if (progress === 'waiting') this.stall('admission')
    return false
  }

  /** Asked here, not before: a head may claim the device while a payload lands. */
  private submit(request: Request): void {
    const { guests } = this
    const { device } = this.exported
    if (guests !== null && isChange(request.operation)) {
      guests.began()
      if (!guests.mayChange()) {
        request.fail(new StorageError('READ_ONLY', 'the device is claimed', device.path))
        return
      }
    }
    device.submit(request)
  }

  /**
   * Half a payload holds room that others may want: it has one to two time-outs to land, without
   * the time in which it waits for room itself.
   */
  private watchLanding(): void {
    const { landings } = this
    const { clock, limits } = this.host.context
    this.landingTimer = clock.timer(limits.sendTimeout, () => {
      this.landingTimer = null
      if ((this.landing.request === null && this.refused === null) || this.ending) return
      const waits = this.stalledBy === 'admission'
      if (this.landings === landings && !waits) this.drop('a payload does not come')
      else this.watchLanding()
    })
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
        return length > this.payloadMax ? 'TOO_LARGE' : beyondAll(offset)
      case Command.write:
        if (this.readOnly) return 'READ_ONLY'
        if (length === 0) return 'INVALID'
        return length > this.payloadMax ? 'TOO_LARGE' : beyondAll(offset)
      case Command.trim:
      case Command.writeZeroes:
        return this.readOnly ? 'READ_ONLY' : beyondAll(offset)
      case Command.cache:
        return offset + length > this.exported.device.facts!.size ? 'RANGE' : null
      case Command.blockStatus:
        return this.allocation ? beyondAll(offset) : 'INVALID'
      default:
        return offset !== 0 || length !== 0 ? 'INVALID' : null
    }
  }

  /** Takes the payload in before the answer: some clients hear nothing while they send. */
  private skipRefused(code: Code): boolean {
    const { length } = this.header
    this.refused = code
    if (length > refusedPayloadMax) return this.drop('payload far too long')
    if (this.host.inbox.skip(length)) return this.answerRefused(code)
    this.landings++
    if (this.landingTimer === null) this.watchLanding()
    return false
  }

  private answerRefused(code: Code): true {
    const { type, flags, cookieHigh, cookieLow } = this.header
    const { outbox } = this.host
    this.refused = null
    const before = outbox.bytesQueued
    const tooLong = code === 'TOO_LARGE' && type === Command.read && this.structured
    const operation = operationOf[type] ?? Operation.flush
    const errno = tooLong ? Errno.EOVERFLOW : errnoOf(code, operation, deviceFlags(type, flags))
    const { payloadMax } = this
    const { size } = this.exported.device.facts!
    const bounds = { payloadMax, size, flags: this.flagsOf[type] }
    this.replyError(cookieHigh, cookieLow, errno, whyRefused(code, this.header, bounds))
    this.giveBack(replyOverheadBytes - (outbox.bytesQueued - before))
    return true
  }

  private reply(request: Request): void {
    const { tag, tagHigh } = request
    if (request.operation === Operation.flush) this.losses.tell(request)
    if (request.error !== null) {
      this.replyError(tagHigh, tag, errnoOfRequest(request), request.error.message)
      return
    }
    const { outbox } = this.host
    const answer = request.context as number
    if (answer === Answer.data) {
      const { length, offset } = request
      if (this.structured) {
        const at = outbox.reserve(codec.dataChunkBytes)
        const { bytes } = outbox
        const type = ChunkType.offsetData
        codec.encodeChunk(bytes, at, codec.chunkDone, type, tagHigh, tag, 8 + length)
        codec.writeUInt64(bytes, at + codec.chunkHeaderBytes, offset)
      } else {
        const at = outbox.reserve(codec.simpleReplyBytes)
        codec.encodeSimpleReply(outbox.bytes, at, Errno.none, tagHigh, tag)
      }
      outbox.payload(request)
    } else if (answer === Answer.nothing) {
      const at = outbox.reserve(codec.simpleReplyBytes)
      codec.encodeSimpleReply(outbox.bytes, at, Errno.none, tagHigh, tag)
    } else this.replyStatus(request, answer === Answer.statusOne)
  }

  private replyStatus(request: Request, one: boolean): void {
    const { outbox } = this.host
    const { extents, tag, tagHigh } = request
    const runs = Math.min(extents.lengths.length, one ? 1 : statusRunsMax)
    const payload = codec.blockStatusPayloadBytes(runs)
    const at = outbox.reserve(codec.chunkHeaderBytes + payload)
    const { bytes } = outbox
    const type = ChunkType.blockStatus
    codec.encodeChunk(bytes, at, codec.chunkDone, type, tagHigh, tag, payload)
    codec.encodeBlockStatus(bytes, at + codec.chunkHeaderBytes, 1, extents, runs)
  }

  private replyError(cookieHigh: number, cookieLow: number, errno: number, message: string): void {
    const { outbox } = this.host
    if (!this.structured) {
      const at = outbox.reserve(codec.simpleReplyBytes)
      codec.encodeSimpleReply(outbox.bytes, at, errno, cookieHigh, cookieLow)
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

  /** Room for the request, or the connection is stalled until there may be some. */
  private reserve(operation: Operation, length: number): boolean {
    const { context, room, outbox } = this.host
    const { limits } = context
    const bytes = roomOf(operation, length)
    const early = operation === Operation.read && this.prompt && outbox.full
    const full =
      early ||
      this.inFlight >= limits.requestsPerConnection ||
      (room.held > 0 && room.held + bytes > limits.bytesPerConnection)
    if (full) return this.stall('limits')
    const later = operation === Operation.write ? length - Landing.firstStep(length) : 0
    return room.reserve(bytes - later, later) || this.stall('admission')
  }

  private stall(by: 'limits' | 'admission' | 'turn'): false {
    this.stalledBy = by
    this.host.stall()
    return false
  }

  private giveBack(bytes: number): void {
    this.host.room.giveBack(bytes)
  }

  /** This connection's own requests or replies have made room. */
  private retry(): void {
    if (this.stalledBy === 'limits') this.proceed()
  }

  private proceed(): void {
    this.stalledBy = 'nothing'
    if (this.ending) return
    this.host.proceed()
    this.run()
    this.host.schedule()
  }

  /** Takes no more requests. */
  private stop(): void {
    this.ending = true
    this.host.stall()
  }

  private finishIfDone(): void {
    // Half a payload is a request that was never made. Its bytes stay until nothing lands any more.
    const unfinished = this.landing.request === null ? 0 : 1
    if (!this.ending || this.inFlight > unfinished) return
    this.host.flush()
    this.host.connection.end()
  }

  private drop(why: string): false {
    this.ending = true
    this.host.fail(new StorageError('PROTOCOL', why))
    return false
  }
}
