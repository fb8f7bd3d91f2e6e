import type { Clock, Timer } from '../base/clock.ts'
import { StorageError, assert } from '../base/errors.ts'
import { KiB, MiB } from '../base/size.ts'
import type { Slab } from '../base/slab.ts'
import { Flag, Operation, type Request } from '../device/request.ts'
import { Inbox, stagedPayloadMax } from '../net/inbox.ts'
import type { Connection } from '../net/network.ts'
import type { TlsSide } from '../net/tls/side.ts'
import { Outbox } from '../net/outbox.ts'
import { payloadOf } from '../peer/held.ts'
import type { LinkClient } from '../peer/link.ts'
import { Sending } from '../peer/sending.ts'
import * as codec from './codec.ts'
import { ChunkType, Command, CommandFlag } from './codec.ts'
import { ClientHandshake, type Conductor, type Terms } from './handshake.ts'
import { Slot } from './slot.ts'
import { codeOf } from './errno.ts'

/** Requests in flight on one connection; servers work on fewer at a time. */
const requestsMax = 128
/** Payload in flight on one connection: what it asks for has to arrive before its deadline. */
const bytesMax = 64 * MiB
/** Bytes of an error chunk that is read: the longest message, and what may surround it. */
const errorBytesMax = 5 * KiB
/** Descriptors of one block status reply, as the protocol advises servers. */
const replyRunsMax = 2 ** 20
/** A request is overdue after this many ticks: a quarter of the timeout each, so at most 5/4. */
const ticksMax = 4

/** What a client connection is made with. */
export interface ClientSettings {
  readonly slab: Slab
  readonly clock: Clock
  /** Name of the export. */
  readonly name: string
  /** TLS, which comes before all else; null: none. */
  readonly tls: TlsSide | null
  /** Milliseconds until the handshake has to be done. */
  readonly handshakeTimeout: number
  /** Milliseconds until a request has to be answered. */
  readonly requestTimeout: number
  /** The device's path, for its errors. */
  readonly path: string
}

/** The owner of a client connection. */
export interface ClientOwner {
  /** `client.terms` are known, and it takes requests. */
  connected(client: NbdClient): void
  /** The server answered; the request is the owner's again, and there is room for another. */
  answered(request: Request, error: StorageError | null): void
  /**
   * The connection is closed; `abandoned` gives away the requests without an answer. `server`: the
   * server is known to have let go of it.
   */
  lost(client: NbdClient, reason: StorageError, closedBy: 'server' | 'other'): void
}

/**
 * One connection to an NBD server, which is not trusted: an answer that cannot be right ends the
 * connection with PROTOCOL, and no answer takes more memory than what was asked for.
 */
export class NbdClient implements LinkClient, Conductor {
  terms: Terms | null = null
  inFlight = 0
  /** How many requests were sent, and the number of the latest of them that was answered. */
  asked = 0
  heard = 0
  private readonly connection: Connection
  private readonly settings: ClientSettings
  private readonly owner: ClientOwner
  private readonly inbox: Inbox
  private readonly outbox: Outbox
  private readonly sending: Sending
  private handshake: ClientHandshake | null
  private readonly handshakeTimer: Timer
  private readonly slots: Slot[] = []
  private readonly free: Slot[] = []
  private bytesInFlight = 0
  private readonly header = new codec.RequestHeader()
  private readonly reply = new codec.ReplyHeader()
  /** The slot whose data are landing. */
  private landingFor: Slot | null = null
  /** The slot whose block status is being read, and how many descriptors are to come. */
  private runsFor: Slot | null = null
  private runsLeft = 0
  private running = false
  private reason: StorageError | null = null
  private ticks = 0
  private ticker: Timer | null = null

  constructor(connection: Connection, settings: ClientSettings, owner: ClientOwner) {
    this.connection = connection
    this.settings = settings
    this.owner = owner
    const { slab, clock, name, tls, handshakeTimeout } = settings
    this.inbox = new Inbox(slab)
    this.outbox = new Outbox(connection, slab, clock)
    this.sending = new Sending(this.outbox, clock)
    this.handshake = new ClientHandshake(this, { use: name }, tls === null ? 'clear' : 'sealed')
    this.handshakeTimer = clock.timer(handshakeTimeout, () => {
      this.destroy(new StorageError('TIMEOUT', `no handshake within ${handshakeTimeout} ms`))
    })
    for (let index = 0; index < requestsMax; index++) this.slots.push(new Slot(index))
    this.free.push(...this.slots)
  }

  /** True when a request with `bytes` of payload may be sent now. */
  hasRoom(bytes: number): boolean {
    if (this.terms === null || this.reason !== null || this.free.length === 0) return false
    return this.bytesInFlight === 0 || this.bytesInFlight + bytes <= bytesMax
  }

  /** Sends a request that there is room for. Its answer comes after this returns. */
  send(request: Request): void {
    const slot = this.free.pop()
    assert(slot !== undefined, 'there is room for the request')
    slot.begin(request, ++this.asked, this.ticks)
    this.inFlight++
    this.bytesInFlight += payloadOf(request)
    const { header, outbox } = this
    header.type = commandOf[request.operation]!
    header.flags = commandFlags(request.flags)
    header.cookieHigh = slot.use
    header.cookieLow = slot.index
    header.offset = request.offset
    header.length = request.length
    const at = outbox.reserve(codec.requestBytes)
    header.encode(outbox.bytes, at)
    if (request.operation === Operation.write) outbox.payload(request)
    if (!this.running) this.sending.schedule(this.inFlight === 1 ? 'alone' : 'among')
    if (this.ticker === null) this.tick()
  }

  /** Disconnects in the ordinary way, with no request in flight; `lost` follows. */
  end(): void {
    this.reason ??= new StorageError('UNAVAILABLE', 'disconnected')
    if (this.terms !== null) {
      const { header, outbox } = this
      Object.assign(header, { type: Command.disconnect, flags: 0, offset: 0, length: 0 })
      const at = outbox.reserve(codec.requestBytes)
      header.encode(outbox.bytes, at)
    }
    this.outbox.flush()
    this.connection.end()
  }

  /** Closes at once; `lost` follows. */
  destroy(reason: StorageError): void {
    this.reason ??= reason
    this.inbox.stall()
    this.connection.destroy()
  }

  /**
   * After `lost`: gives away the unanswered requests in the order they were sent, each with why it
   * failed; null if that is only because the connection did.
   */
  abandoned(take: (request: Request, failure: StorageError | null) => void): void {
    const busy = this.slots.filter(({ request }) => request !== null)
    for (const slot of busy.sort((a, b) => a.sequence - b.sequence)) {
      const { failure } = slot
      const request = slot.end()
      request.extents.clear()
      if (request.operation === Operation.read) request.dropSegments()
      take(request, failure)
    }
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    if (!this.inbox.landed(bytes)) return
    this.running = true
    while (this.reason === null && this.step());
    this.running = false
    this.outbox.flush()
  }

  sent(): void {
    this.outbox.sent()
  }

  closed(reason: StorageError | null): void {
    this.handshakeTimer.cancel()
    this.ticker?.cancel()
    this.inbox.close()
    this.outbox.close()
    const closedBy = this.reason === null && closedByPeer(reason) ? 'server' : 'other'
    this.reason ??= reason ?? new StorageError('UNAVAILABLE', 'the server closed the connection')
    this.owner.lost(this, this.reason, closedBy)
  }

  say(bytes: Buffer): void {
    const at = this.outbox.reserve(bytes.length)
    bytes.copy(this.outbox.bytes, at)
  }

  startTls(): void {
    this.connection.startTls!(this.settings.tls!, () => undefined)
  }

  agreed(terms: Terms): void {
    this.handshake = null
    this.handshakeTimer.cancel()
    this.terms = terms
    this.owner.connected(this)
  }

  listed(): void {
    assert(false, 'no list was asked for')
  }

  refused(error: StorageError): void {
    this.destroy(error)
  }

  private step(): boolean {
    if (this.handshake !== null) return this.handshake.step(this.inbox)
    if (this.landingFor !== null) {
      const slot = this.landingFor
      this.landingFor = null
      if (slot.done) return this.finish(slot)
    }
    if (this.runsFor !== null) return this.readRuns(this.runsFor)
    return this.readReply()
  }

  private readReply(): boolean {
    const { inbox, reply } = this
    if (!inbox.need(codec.simpleReplyBytes)) return false
    const problem = reply.decode(inbox.bytes, inbox.at, inbox.available)
    if (problem === 'short') return inbox.need(codec.chunkHeaderBytes)
    if (problem !== null) return this.violation('wrong magic of a reply')
    const slot = this.slots[reply.cookieLow]
    if (slot?.request == null || slot.use !== reply.cookieHigh || slot.done)
      return this.violation('a reply to nothing that was asked')
    return reply.structured ? this.readChunk(slot, slot.request) : this.readSimple(slot)
  }

  private readSimple(slot: Slot): boolean {
    const { inbox, reply } = this
    const { operation } = slot.request!
    const data = operation === Operation.read && reply.error === 0
    if (operation === Operation.status && reply.error === 0)
      return this.violation('a block status without an answer')
    if (data && this.terms!.structured) return this.violation('a simple reply to a read')
    inbox.consume(codec.simpleReplyBytes)
    slot.done = true
    if (reply.error !== 0) slot.failure = this.failure(slot, reply.error, '')
    else if (data) return this.readData(slot, slot.request!.offset, slot.request!.length)
    return this.finish(slot)
  }

  private readChunk(slot: Slot, request: Request): boolean {
    const { inbox, reply } = this
    const { type, length } = reply
    if (!this.terms!.structured) return this.violation('a chunk that was not agreed on')
    // A small chunk is read in one piece; a large one has a small head.
    const head = type === ChunkType.blockStatus ? 4 : type === ChunkType.offsetData ? 8 : length
    if (length < head || head > errorBytesMax) return this.violation('a chunk of a wrong length')
    const staged = type === ChunkType.offsetData && length <= stagedPayloadMax ? length : head
    if (!inbox.need(codec.chunkHeaderBytes + staged)) return false
    inbox.consume(codec.chunkHeaderBytes)
    const { at, bytes } = inbox
    inbox.consume(head)
    slot.done = (reply.flags & codec.chunkDone) !== 0
    if ((type & codec.chunkErrorBit) !== 0) {
      const error = codec.decodeErrorPayload(bytes, at, length)
      if (error === null) return this.violation('an error that does not parse')
      slot.failure ??= this.failure(slot, error.error, error.message)
    } else if (type === ChunkType.none) {
      if (length !== 0 || !slot.done) return this.violation('an empty chunk that is not the last')
    } else if (type === ChunkType.offsetData && request.operation === Operation.read) {
      if (length === head) return this.violation('a chunk without data')
      return this.readData(slot, codec.readUInt64(bytes, at), length - head)
    } else if (type === ChunkType.offsetHole && request.operation === Operation.read) {
      const hole = length === 12 ? bytes.readUInt32BE(at + 8) : 0
      if (hole === 0 || !slot.placeZeroes(codec.readUInt64(bytes, at), hole))
        return this.violation('a hole that was not asked for')
    } else if (type === ChunkType.blockStatus && request.operation === Operation.status) {
      const runs = (length - head) / 8
      const known = bytes.readUInt32BE(at) === this.terms!.context
      const again = request.extents.lengths.length > 0
      if (!known || again || !Number.isInteger(runs) || runs < 1 || runs > replyRunsMax)
        return this.violation('a block status that cannot be')
      this.runsFor = slot
      this.runsLeft = runs
      return true
    } else return this.violation('a chunk of an unknown type')
    return slot.done ? this.finish(slot) : true
  }

  private readData(slot: Slot, offset: number, length: number): boolean {
    const into = slot.place(offset, length)
    if (into === null) return this.violation('data that were not asked for')
    if (!this.inbox.takePayload(into, length)) {
      this.landingFor = slot
      return false
    }
    return slot.done ? this.finish(slot) : true
  }

  /** Reads descriptors of a block status; those beyond what was asked for are dropped. */
  private readRuns(slot: Slot): boolean {
    const { inbox } = this
    const { extents, length: asked } = slot.request!
    let covered = extents.covered
    while (this.runsLeft > 0) {
      if (!inbox.need(8)) return false
      const length = inbox.bytes.readUInt32BE(inbox.at)
      const state = inbox.bytes.readUInt32BE(inbox.at + 4)
      inbox.consume(8)
      this.runsLeft--
      if (length === 0) return this.violation('an empty run of a block status')
      const wanted = Math.min(length, asked - covered)
      if (wanted === 0) continue
      if (extents.add(wanted, codec.extentFlagsOf(state))) covered += wanted
      // The extents are full: what follows would leave a gap.
      else covered = asked
    }
    this.runsFor = null
    return slot.done ? this.finish(slot) : true
  }

  /** The reply is complete. */
  private finish(slot: Slot): boolean {
    const request = slot.request!
    const { operation } = request
    if (slot.failure === null) {
      if (operation === Operation.read && !slot.assemble())
        return this.violation('a read with data missing')
      if (operation === Operation.status && request.extents.lengths.length === 0)
        return this.violation('a block status without an answer')
    }
    const { failure } = slot
    this.heard = Math.max(this.heard, slot.sequence)
    slot.end()
    this.free.push(slot)
    this.inFlight--
    this.bytesInFlight -= payloadOf(request)
    this.owner.answered(request, failure)
    // The protocol asks for this, so that servers can stop.
    if (failure?.code === 'SHUTDOWN') this.destroy(failure)
    return true
  }

  private failure({ request }: Slot, errno: number, message: string): StorageError {
    const text = message.replace(/[^ -~]+/g, ' ')
    const said = `the server answered error ${errno}${text === '' ? '' : `: ${text}`}`
    return new StorageError(codeOf(errno, request!), said, this.settings.path)
  }

  private violation(what: string): false {
    this.destroy(new StorageError('PROTOCOL', `the server sent ${what}`, this.settings.path))
    return false
  }

  /** NBD has no ping: a server is alive as long as it answers in time. Idle, no timer runs. */
  private tick(): void {
    const { clock, requestTimeout, path } = this.settings
    this.ticker = clock.timer(requestTimeout / ticksMax, () => {
      this.ticker = null
      this.ticks++
      const overdue = this.slots.filter(
        ({ request, tick }) => request !== null && this.ticks - tick > ticksMax,
      )
      if (overdue.length > 0) {
        const error = new StorageError('TIMEOUT', `no answer within ${requestTimeout} ms`, path)
        for (const slot of overdue) slot.failure = error
        this.destroy(error)
      } else if (this.inFlight > 0) this.tick()
    })
  }
}

const commandOf: readonly number[] = [
  Command.read,
  Command.write,
  Command.flush,
  Command.trim,
  Command.writeZeroes,
  Command.blockStatus,
]

function commandFlags(flags: number): number {
  let found = (flags & Flag.fua) !== 0 ? CommandFlag.fua : 0
  if ((flags & Flag.fastZero) !== 0) found |= CommandFlag.fastZero
  if ((flags & Flag.noHole) !== 0) found |= CommandFlag.noHole
  return found
}

/** True when the peer is known to have let go, rather than the network to have failed. */
function closedByPeer(reason: StorageError | null): boolean {
  if (reason === null) return true
  const { code } = (reason.cause ?? {}) as { code?: unknown }
  return code === 'ECONNRESET' || code === 'EPIPE'
}
