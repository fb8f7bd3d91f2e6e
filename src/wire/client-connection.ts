import type { Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { Operation, type Request } from '../device/request.ts'
import { Inbox, stagedPayloadMax } from '../net/inbox.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import { Outbox } from '../net/outbox.ts'
import { Stint } from '../net/stint.ts'
import type { ClientWorld } from '../peer/link.ts'
import { Sending } from '../peer/sending.ts'
import {
  checksumOf,
  Command,
  decodeReply,
  encodeRequest,
  Kind,
  newReplyHeader,
  newRequestHeader,
  replyBytes,
  requestBytes,
} from './codec.ts'
import {
  decodeFacts,
  decodePreface,
  decodeWelcome,
  encodeHello,
  factsBytes,
  Feature,
  prefaceBytes,
  textBytesMax,
  version,
  welcomeBytesMax,
  type Hello,
  type Welcome,
  type WireFacts,
} from './hello.ts'
import { areRuns, decodeRuns } from './runs.ts'
import { controlSlot, SlotState, type Slots } from './slots.ts'
import { errorOf, statusChecksum, statusOk } from './status.ts'

/** Bytes of answers to pings that may wait: a server that asks and never reads gets no more. */
const pongsBytesMax = 4096

/** The owner of a connection: told when it begins and when it ends. */
export interface ConnectionKeeper {
  /** The server's first message, whatever its status. */
  welcomed(connection: ClientConnection, welcome: Welcome): void
  /** The connection is over and refers to no buffer any more. */
  closed(connection: ClientConnection, reason: StorageError | null): void
}

/** The user of a connection: told what the server says. */
export interface ConnectionUser {
  readonly slots: Slots<ClientConnection>
  /** The slot's request was answered. */
  answered(connection: ClientConnection, slot: number, error: StorageError | null): void
  /** The slot's payload arrived damaged, here or at the server. */
  damaged(connection: ClientConnection, slot: number): void
  controlAnswered(sequence: number, error: StorageError | null, text: string): void
  factsChanged(facts: WireFacts): void
  /** Another session has claimed the device with this fence number, which is higher than ours. */
  outbid(fence: number): void
}

/** What a connection is made for. */
export interface ConnectionSetting {
  readonly keeper: ConnectionKeeper
  readonly user: ConnectionUser
  readonly hello: Hello
  /** Milliseconds for the answer to the hello. */
  readonly helloTimeout: number
}

/** One connection of a session, as the client sees it: requests out, replies in. */
export class ClientConnection implements ConnectionHandler {
  readonly index: number
  depth = 0
  inFlight = 0
  /** Payload bytes of the requests in flight. */
  bytesInFlight = 0
  /** How many replies it brought; with any it was of use. */
  replies = 0
  /** True once nothing is sent, and nothing that comes is believed. */
  over = false
  readonly outbox: Outbox
  private readonly sending: Sending
  private readonly connection: Connection
  private readonly keeper: ConnectionKeeper
  private readonly user: ConnectionUser
  private readonly slots: Slots<ClientConnection>
  private readonly inbox: Inbox
  private greeted = false
  private running = false
  private readonly stint: Stint
  private checksums = false
  fencing = false
  private readonly request = newRequestHeader()
  private readonly reply = newReplyHeader()
  /** The slot of the read whose payload is landing, -1 if none is. */
  private arriving = -1
  private arrivingChecksum = 0
  private early: number[] = []
  private problem: StorageError | null = null
  private readonly helloTimer: Timer
  private heardAt: number
  private heard = false
  private pingedAt: number

  constructor(connection: Connection, setting: ConnectionSetting, world: ClientWorld) {
    const { keeper, user, hello, helloTimeout } = setting
    const { slab, clock } = world
    this.connection = connection
    this.keeper = keeper
    this.user = user
    this.slots = user.slots
    this.index = hello.index
    this.inbox = new Inbox(slab)
    this.outbox = new Outbox(connection, slab, clock)
    this.sending = new Sending(this.outbox, clock)
    this.stint = new Stint(clock, () => this.goOn())
    this.heardAt = this.pingedAt = clock.now()
    this.helloTimer = clock.timer(helloTimeout, () => this.fail('TIMEOUT', 'no answer to hello'))
    this.outbox.lend(encodeHello(hello))
    this.outbox.flush()
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    this.heard = true
    if (this.inbox.landed(bytes)) this.run()
  }

  private run(): void {
    this.stint.begin()
    // What answers bring about leaves together; at once, unless more of them are there already.
    this.running = true
    this.outbox.gather()
    while (!this.over && this.step());
    this.outbox.leave(this.inbox.filled ? 'later' : 'now')
    this.running = false
  }

  sent(): void {
    this.outbox.sent()
    if (this.early.length > 0) this.settleEarly('sent')
  }

  closed(reason: StorageError | null): void {
    this.over = true
    this.helloTimer.cancel()
    if (this.arriving >= 0) this.slots.requests[this.arriving]?.dropSegments()
    this.inbox.close()
    this.outbox.close()
    this.settleEarly('all')
    this.keeper.closed(this, this.problem ?? reason)
  }

  /** Closes at once, and remembers why. Returns false, for `step`. */
  fail(code: 'PROTOCOL' | 'TIMEOUT', message: string): false {
    if (this.over) return false
    this.over = true
    this.problem = new StorageError(code, `${this.connection.peer}: ${message}`)
    this.connection.destroy()
    return false
  }

  destroy(): void {
    this.over = true
    this.connection.destroy()
  }

  /** Closes after what was sent has gone out. */
  end(): void {
    if (this.over) return
    this.over = true
    this.outbox.flush()
    this.connection.end()
  }

  /** Sends the slot's request, by the end of this turn. */
  send(slot: number): void {
    const { slots, outbox, request: header } = this
    const request = slots.requests[slot]!
    const { operation, length } = request
    const carries = operation === Operation.write
    header.command = operation + 1
    header.flags = request.flags
    header.slot = slot
    header.sequence = slots.sequences[slot]!
    header.offset = request.offset
    header.length = length
    header.payload = carries ? length : 0
    header.payloadChecksum = carries && this.checksums ? checksumOf(request.segments) : 0
    slots.batches[slot] = outbox.batchesFlushed + 1
    const at = outbox.reserve(requestBytes)
    encodeRequest(outbox.bytes, at, header, this.checksums)
    if (carries) outbox.payload(request)
    if (operation <= Operation.write) this.bytesInFlight += length
    slots.states[slot] = SlotState.sent
    slots.connections[slot] = this
    this.inFlight++
    if (!this.running) this.sending.schedule(this.inFlight === 1 ? 'alone' : 'among')
  }

  /** Sends a question that is no request of a range; `value` is the fence number of a claim. */
  ask(command: number, sequence: number, value: number): void {
    const { request: header, outbox } = this
    const question = { command, flags: 0, slot: controlSlot, sequence, offset: value }
    Object.assign(header, question, { length: 0, payload: 0, payloadChecksum: 0 })
    const at = outbox.reserve(requestBytes)
    encodeRequest(outbox.bytes, at, header, this.checksums)
    outbox.schedule()
  }

  /** Pings the server every `pingInterval`, and gives it up when it is silent for `pingTimeout`. */
  tick(now: number, pingInterval: number, pingTimeout: number): void {
    if (!this.greeted) return
    if (this.heard) this.heardAt = now
    this.heard = false
    const silent = now - this.heardAt
    if (silent >= pingTimeout) this.fail('TIMEOUT', `silent for ${Math.round(silent)} ms`)
    else if (now - this.pingedAt >= pingInterval) {
      this.pingedAt = now
      this.ask(Command.ping, 0, 0)
    }
  }

  private step(): boolean {
    if (this.arriving >= 0) this.finishRead()
    if (this.over) return false
    if (!this.greeted) return this.greet()
    const { inbox, reply } = this
    if (!inbox.need(replyBytes)) return false
    if (decodeReply(inbox.bytes, inbox.at, reply, this.checksums) !== null)
      return this.fail('PROTOCOL', 'a header is damaged')
    if (reply.kind === Kind.reply)
      return reply.slot === controlSlot ? this.takeControl() : this.takeReply()
    if (reply.kind === Kind.facts) return this.takeFacts()
    if (reply.kind === Kind.fenced) return this.takeFenced()
    inbox.consume(replyBytes)
    // A server that does not read gets no answers either: the bytes queued for it prove us alive.
    const waiting = this.outbox.bytesQueued - this.outbox.payloadQueued
    if (reply.kind === Kind.ping && waiting < pongsBytesMax)
      this.ask(Command.pong, reply.sequence, 0)
    return inbox.skip(reply.payload)
  }

  private greet(): boolean {
    const { inbox } = this
    if (!inbox.need(prefaceBytes)) return false
    const preface = decodePreface(inbox.bytes, inbox.at)
    if (typeof preface === 'string' || preface.length > welcomeBytesMax)
      return this.fail('PROTOCOL', 'it does not speak DST/1')
    if (preface.versionMin !== version)
      return this.fail('PROTOCOL', `it speaks version ${preface.versionMin}, not ${version}`)
    const length = prefaceBytes + preface.length
    if (!inbox.need(length)) return false
    const welcome = decodeWelcome(inbox.bytes, inbox.at, inbox.at + length)
    inbox.consume(length)
    if (typeof welcome === 'string')
      return this.fail('PROTOCOL', `its welcome is wrong: ${welcome}`)
    this.greeted = true
    this.helloTimer.cancel()
    this.depth = welcome.depth
    this.checksums = (welcome.features & Feature.checksums) !== 0
    this.fencing = (welcome.features & Feature.fencing) !== 0
    this.keeper.welcomed(this, welcome)
    return true
  }

  private takeReply(): boolean {
    const { slots, inbox, reply } = this
    const { slot, sequence, status, payload } = reply
    const mine =
      slots.states[slot] === SlotState.sent &&
      slots.connections[slot] === this &&
      slots.sequences[slot] === sequence
    if (!mine) {
      // No request waits for this answer any more: its length says where the next one begins.
      inbox.consume(replyBytes)
      return inbox.skip(payload)
    }
    const request = slots.requests[slot]!
    if (status !== statusOk) return this.takeError(slot)
    if (request.operation === Operation.read) return this.takeRead(slot, request)
    if (request.operation === Operation.status) return this.takeRuns(slot, request)
    inbox.consume(replyBytes)
    const skipped = inbox.skip(payload)
    this.settle(slot, null)
    return skipped
  }

  private takeRead(slot: number, request: Request): boolean {
    const { length } = request
    if (this.reply.payload !== length)
      return this.fail('PROTOCOL', `${this.reply.payload} bytes instead of ${length}`)
    if (length <= stagedPayloadMax && !this.inbox.need(replyBytes + length)) return false
    this.inbox.consume(replyBytes)
    this.arriving = slot
    this.arrivingChecksum = this.reply.payloadChecksum
    return this.inbox.takePayload(request, request.length)
  }

  private finishRead(): void {
    const slot = this.arriving
    this.arriving = -1
    const request = this.slots.requests[slot]!
    if (this.checksums && checksumOf(request.segments) !== this.arrivingChecksum) {
      request.dropSegments()
      this.settleDamaged(slot)
    } else this.settle(slot, null)
  }

  private takeRuns(slot: number, request: Request): boolean {
    const { inbox, reply } = this
    const { payload } = reply
    if (!areRuns(payload)) return this.fail('PROTOCOL', `a status of ${payload} bytes`)
    if (!inbox.need(replyBytes + payload)) return false
    const at = inbox.at + replyBytes
    if (!decodeRuns(inbox.bytes, { at, end: at + payload }, request.extents, request.length))
      return this.fail('PROTOCOL', 'a status of other bytes than asked for')
    inbox.consume(replyBytes + payload)
    this.settle(slot, null)
    return true
  }

  private takeError(slot: number): boolean {
    const text = this.takeText()
    if (text === null) return false
    if (this.reply.status === statusChecksum) this.settleDamaged(slot)
    else this.settle(slot, errorOf(this.reply.status, text))
    return true
  }

  private takeControl(): boolean {
    const text = this.takeText()
    if (text === null) return false
    const { status, sequence } = this.reply
    this.replies++
    const error = status === statusOk ? null : errorOf(status, text)
    this.user.controlAnswered(sequence, error, text)
    return true
  }

  private takeFenced(): boolean {
    const text = this.takeText()
    if (text === null) return false
    const fence = /^\d{1,16}$/.test(text) ? Number(text) : NaN
    if (Number.isSafeInteger(fence)) this.user.outbid(fence)
    else this.fail('PROTOCOL', 'a claim that is no number')
    return !this.over
  }

  /** Consumes a reply whose payload is text; null when it is not all there, or too long. */
  private takeText(): string | null {
    const { inbox, reply } = this
    const { payload } = reply
    if (payload > textBytesMax) {
      this.fail('PROTOCOL', `a sentence of ${payload} bytes`)
      return null
    }
    if (!inbox.need(replyBytes + payload)) return null
    const from = inbox.at + replyBytes
    const text = inbox.bytes.toString('utf8', from, from + payload)
    inbox.consume(replyBytes + payload)
    return text
  }

  private takeFacts(): boolean {
    const { inbox, reply } = this
    if (reply.payload !== factsBytes)
      return this.fail('PROTOCOL', `facts of ${reply.payload} bytes`)
    if (!inbox.need(replyBytes + factsBytes)) return false
    // Facts may come without end, and what the devices above make of each may take long.
    if (this.stint.over(Infinity)) {
      inbox.stall()
      this.connection.pause()
      return false
    }
    const facts = decodeFacts(inbox.bytes, inbox.at + replyBytes)
    inbox.consume(replyBytes + factsBytes)
    if (facts === null) this.fail('PROTOCOL', 'facts that no device can have')
    else this.user.factsChanged(facts)
    return true
  }

  private goOn(): void {
    if (this.over) return
    this.inbox.unstall()
    this.connection.resume()
    this.run()
  }

  private settle(slot: number, error: StorageError | null): void {
    const { slots, outbox } = this
    // The server may refuse a write before it took all of it in: its bytes are lent to the socket.
    const request = slots.requests[slot]!
    if (request.operation === Operation.write && outbox.batchesSent < slots.batches[slot]!) {
      slots.states[slot] = SlotState.early
      slots.answers[slot] = error
      this.early.push(slot)
      return
    }
    this.left(request)
    this.user.answered(this, slot, error)
  }

  private settleDamaged(slot: number): void {
    this.left(this.slots.requests[slot]!)
    this.user.damaged(this, slot)
  }

  private left(request: Request): void {
    this.replies++
    this.inFlight--
    if (request.operation <= Operation.write) this.bytesInFlight -= request.length
  }

  /** Reports early answers: of requests that the socket has sent, or all when it is closed. */
  private settleEarly(which: 'sent' | 'all'): void {
    const { early, slots, outbox } = this
    if (early.length === 0) return
    this.early = []
    for (const slot of early)
      if (which === 'all' || outbox.batchesSent >= slots.batches[slot]!) {
        this.left(slots.requests[slot]!)
        this.user.answered(this, slot, slots.answers[slot]!)
      } else this.early.push(slot)
  }
}
