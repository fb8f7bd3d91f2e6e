import { StorageError, systemError } from '../base/errors.ts'
import type { Waiter } from '../net/admission.ts'
import { Inbox, stagedPayloadMax } from '../net/inbox.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import { Outbox } from '../net/outbox.ts'
import type { ServiceContext } from '../net/service.ts'
import { Stint } from '../net/stint.ts'
import { Flag, isChange, Operation, Request, type Completer } from '../device/request.ts'
import { encodeClaimed } from './claims.ts'
import {
  checksumOf,
  Command,
  decodeRequest,
  Kind,
  newRequestHeader,
  requestBytes,
} from './codec.ts'
import { Greeter } from './greeter.ts'
import { Feature, type WireFacts } from './hello.ts'
import { Replies } from './replies.ts'
import { slotsMax, type Session, type SessionConnection, type Sessions } from './session.ts'
import { sentenceOf, statusChecksum, statusOf, statusOk } from './status.ts'

/** Milliseconds without a byte from a client after which it is asked whether it is there. */
const pingInterval = 10_000
/** Milliseconds without a byte from a client after which it is taken for gone. */
const pingTimeout = 30_000
/** Bytes of replies, payload apart, that may wait for a client before it is not listened to. */
const repliesBytesMax = 64 * 1024
/** Questions under way on one connection that are no requests. */
const controlsMax = 16

const flagsKnown = Flag.fua | Flag.fastZero | Flag.noHole

/** One connection of a client: bytes in, requests to the device, replies out. */
export class ServerConnection implements ConnectionHandler, Completer, Waiter, SessionConnection {
  readonly peer: string
  index = 0
  session: Session | null = null
  inFlight = 0
  readonly connection: Connection
  readonly inbox: Inbox
  readonly outbox: Outbox
  private readonly context: ServiceContext
  private readonly sessions: Sessions
  private readonly greeter: Greeter
  private readonly replies: Replies
  private readonly onClosed: (connection: ServerConnection) => void
  private checksums = false
  private fencing = false
  private depth = 0
  private readonly header = newRequestHeader()
  /** The write whose payload is landing. */
  private arriving: Request | null = null
  private arrivingChecksum = 0
  /** Monotonic, milliseconds: when its payload began to land by itself. */
  private arrivingSince = 0
  private bytesReserved = 0
  private controls = 0
  /** Whether the device answered the last read before it returned from it. */
  private prompt = false
  private pumping = false
  private readonly stint: Stint
  private stalled = false
  private awaitingRoom = false
  private draining = false
  private factsWaiting: WireFacts | null = null
  /** Nothing is read and nothing answered any more. */
  private over = false
  private readonly startedAt: number
  private heardAt: number
  private heard = false
  private pingedAt = 0
  private sentAt: number
  /** Batches that have to have left in time, counted from the first. */
  private due = 0
  private progress = false

  constructor(
    connection: Connection,
    context: ServiceContext,
    sessions: Sessions,
    instance: string,
    onClosed: (connection: ServerConnection) => void,
  ) {
    this.connection = connection
    this.peer = connection.peer
    this.context = context
    this.sessions = sessions
    this.onClosed = onClosed
    this.inbox = new Inbox(context.slab)
    this.outbox = new Outbox(connection, context.slab, context.clock)
    this.replies = new Replies(this.outbox, context.slab)
    this.greeter = new Greeter(this, context, sessions, instance)
    this.stint = new Stint(context.clock, () => this.wake())
    this.startedAt = this.heardAt = this.sentAt = context.clock.now()
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    this.heard = true
    if (!this.inbox.landed(bytes)) return
    // Answers leave together; at once, unless more was asked already.
    this.outbox.gather()
    this.pump()
    this.outbox.leave(!this.inbox.filled)
  }

  sent(): void {
    this.progress = true
    this.giveBack(this.outbox.sent())
    if (this.factsWaiting !== null) this.tellFacts(this.factsWaiting)
    this.wake()
  }

  closed(reason: StorageError | null): void {
    this.over = true
    if (reason !== null)
      this.context.log.debug({ peer: this.peer, err: reason }, 'a connection of a client broke')
    if (this.arriving !== null) this.drop(this.arriving)
    this.giveBack(this.outbox.payloadQueued)
    this.inbox.close()
    this.outbox.close()
    this.context.admission.forget(this)
    if (this.session !== null) this.sessions.detach(this.session, this)
    else this.greeter.closed()
    this.onClosed(this)
  }

  /** The hello was accepted: what comes now are requests. */
  welcomed(session: Session, index: number, depth: number, features: number): void {
    this.session = session
    this.index = index
    this.depth = depth
    this.checksums = (features & Feature.checksums) !== 0
    this.fencing = (features & Feature.fencing) !== 0
    this.replies.checksums = this.checksums
  }

  kick(reason: string): void {
    this.context.log.info({ peer: this.peer, reason }, 'closing a connection of a client')
    this.refuse()
  }

  tellFacts(facts: WireFacts): void {
    if (this.over || this.session === null) return
    // Nobody asked for them, so nothing else holds them up: of too many the last are told, later.
    this.factsWaiting = this.repliesWaiting > 2 * repliesBytesMax ? facts : null
    if (this.factsWaiting === null) this.replies.facts(facts)
  }

  tellFenced(epoch: number): void {
    this.context.log.warn(
      { peer: this.peer, export: this.session?.target.name, epoch },
      'a client was fenced: another one has claimed the device with a higher epoch',
    )
    if (!this.over && this.fencing) this.replies.fenced(epoch)
  }

  /** Takes no more requests, answers those in flight, then closes. */
  drain(): void {
    this.draining = true
    this.endIfDrained()
  }

  /** Closes what is silent or does not listen for too long. Called about once a second. */
  tick(now: number): void {
    const { limits } = this.context
    // While we do not listen, silence says nothing.
    if (this.heard || this.stalled) this.heardAt = now
    const { outbox, due } = this
    const contended = this.context.admission.othersWait(this)
    if (outbox.batchesSent >= due || (this.progress && !contended)) {
      this.sentAt = now
      this.due = outbox.batchesFlushed
    }
    this.heard = false
    this.progress = false
    if (this.session === null && now - this.startedAt > limits.handshakeTimeout)
      this.kick('no hello in time')
    else if (now - this.sentAt > limits.sendTimeout) this.kick('it does not read its replies')
    else if (this.inbox.payloadLanding && now - this.arrivingSince > limits.sendTimeout)
      // A byte now and then is no silence, but the room of its payload is what others wait for.
      this.kick('a payload does not come')
    else if (now - this.heardAt > pingTimeout) this.kick('it is silent')
    else if (this.session !== null && now - this.heardAt > pingInterval) this.ping(now)
  }

  /** Goes on reading, once whatever held it up is over. */
  wake(): void {
    if (!this.stalled || this.held()) return
    this.stalled = false
    this.inbox.unstall()
    this.connection.resume()
    this.pump()
  }

  admitted(): void {
    this.awaitingRoom = false
    this.wake()
  }

  /** Closes at once: the peer broke the protocol, or must not go on. */
  refuse(): void {
    this.over = true
    this.connection.destroy()
  }

  /** Sends a first message. `end`: and closes. */
  send(message: Buffer, end: boolean): void {
    this.outbox.lend(message)
    this.outbox.flush()
    if (!end) return
    this.over = true
    this.connection.end()
  }

  completed(request: Request): void {
    const { operation, tag: slot, error } = request
    const status = error === null ? statusOk : statusOf(error.code)
    this.inFlight--
    this.session!.finish(slot, status, isChange(operation))
    if (this.over || error !== null || operation !== Operation.read) {
      if (operation <= Operation.write) this.giveBack(request.length)
    }
    if (!this.over) {
      this.replies.completed(request, status)
      // Others in flight might be answered in the same turn: without any, it need not wait.
      if (this.inFlight === 0 && !this.pumping && !this.inbox.filled) this.outbox.flush()
    }
    request.release()
    if (this.draining) this.endIfDrained()
    else this.wake()
  }

  private pump(): void {
    if (this.pumping) return
    this.pumping = true
    this.stint.begin()
    while (!this.over && this.step());
    this.pumping = false
  }

  /** One message. False when there is nothing more to do before bytes land or `wake`. */
  private step(): boolean {
    if (this.arriving !== null) this.submitArrived(this.arriving)
    if (this.over) return false
    if (this.held()) return this.stall()
    if (this.session === null) {
      this.greeter.greet()
      if (this.greeter.waiting) this.stall()
      return this.depth > 0
    }
    const { inbox, header } = this
    if (!inbox.need(requestBytes)) return false
    if (decodeRequest(inbox.bytes, inbox.at, header, this.checksums) !== null) {
      this.kick('a header is damaged')
      return false
    }
    if (this.stint.over(header.length)) return this.stall()
    const known = header.command >= Command.read && header.command <= Command.status
    return known ? this.takeRequest(this.session) : this.takeControl()
  }

  private held(): boolean {
    return (
      this.draining ||
      this.awaitingRoom ||
      this.stint.resting ||
      this.greeter.waiting ||
      (this.session !== null && this.inFlight >= this.depth) ||
      this.bytesReserved >= this.context.limits.bytesPerConnection ||
      this.repliesWaiting > repliesBytesMax
    )
  }

  /** Bytes, payload apart. */
  private get repliesWaiting(): number {
    return this.outbox.bytesQueued - this.outbox.payloadQueued
  }

  private stall(): false {
    if (this.stalled) return false
    this.stalled = true
    this.inbox.stall()
    this.connection.pause()
    return false
  }

  private takeRequest(session: Session): boolean {
    const { header, inbox } = this
    const { command, flags, slot, sequence, offset, length, payload } = header
    const operation = (command - 1) as Operation
    if (slot >= slotsMax || session.busy(slot)) {
      this.kick('a request is not in order')
      return false
    }
    const refusal = this.check(session, operation)
    const answered = isChange(operation) ? session.recall(slot, sequence) : -1
    if (refusal !== null || answered >= 0) {
      inbox.consume(requestBytes)
      const skipped = inbox.skip(payload)
      if (refusal === null) this.replies.bare(Kind.reply, answered, slot, sequence)
      else this.replies.text(statusOf(refusal), slot, sequence, sentenceOf(refusal))
      return skipped
    }
    const staged = operation === Operation.write && length <= stagedPayloadMax
    if (staged && !inbox.need(requestBytes + length)) return false
    if (operation === Operation.read && this.prompt && this.outbox.full) return this.stall()
    if (operation <= Operation.write && !this.reserve(length)) return false
    inbox.consume(requestBytes)
    const flush = operation === Operation.flush
    const request = Request.take(operation, flush ? 0 : offset, flush ? 0 : length, flags, this)
    request.tag = slot
    request.tagHigh = sequence
    this.arriving = request
    if (operation !== Operation.write) return true
    this.arrivingChecksum = header.payloadChecksum
    this.arrivingSince = this.context.clock.now()
    return inbox.takePayload(request, length)
  }

  /** What can be said before the device is asked. */
  private check(session: Session, operation: Operation): 'INVALID' | 'TOO_LARGE' | Refusal | null {
    const { flags, length, payload, offset } = this.header
    if ((flags & ~flagsKnown) !== 0 || Number.isNaN(offset)) return 'INVALID'
    if (payload !== (operation === Operation.write ? length : 0)) return 'INVALID'
    if (operation <= Operation.write && length > this.context.limits.payload) return 'TOO_LARGE'
    return this.forbidden(session, operation)
  }

  private forbidden(session: Session, operation: Operation): Refusal | null {
    if (session.replaced) return 'FENCED'
    if (operation === Operation.read || operation === Operation.status) return null
    if (session.fenced) return 'FENCED'
    return session.target.readOnly && operation !== Operation.flush ? 'READ_ONLY' : null
  }

  private reserve(bytes: number): boolean {
    if (!this.context.admission.reserve(bytes, this)) {
      this.awaitingRoom = true
      return this.stall()
    }
    this.bytesReserved += bytes
    return true
  }

  private giveBack(bytes: number): void {
    if (bytes === 0) return
    this.bytesReserved -= bytes
    this.context.admission.giveBack(bytes)
  }

  /** All of the request is here. */
  private submitArrived(request: Request): void {
    this.arriving = null
    const session = this.session!
    const { operation, tag: slot, tagHigh: sequence } = request
    const damaged =
      operation === Operation.write &&
      this.checksums &&
      checksumOf(request.segments) !== this.arrivingChecksum
    // Somebody may have claimed the device, and waited for what was under way, while this landed.
    const forbidden = this.forbidden(session, operation)
    if (damaged || forbidden !== null) {
      this.drop(request)
      this.replies.bare(Kind.reply, damaged ? statusChecksum : statusOf(forbidden!), slot, sequence)
      return
    }
    session.begin(slot, sequence, isChange(operation))
    const inFlight = ++this.inFlight
    session.target.device.submit(request)
    if (operation === Operation.read) this.prompt = this.inFlight < inFlight
  }

  /** Lets go of a request that nobody was given. */
  private drop(request: Request): void {
    this.arriving = null
    if (request.operation <= Operation.write) this.giveBack(request.length)
    request.abandon()
  }

  private takeControl(): boolean {
    const { inbox, header } = this
    const { command, slot, sequence, offset, payload } = header
    inbox.consume(requestBytes)
    const skipped = inbox.skip(payload)
    if (command === Command.ping) this.replies.bare(Kind.pong, statusOk, slot, sequence)
    else if (command === Command.stamp) this.control(slot, sequence, this.stamp())
    else if (command === Command.claim) this.control(slot, sequence, this.claim(offset))
    else if (command === Command.claimed) this.control(slot, sequence, this.claimed())
    else if (command !== Command.pong)
      this.replies.text(statusOf('UNSUPPORTED'), slot, sequence, 'unknown command')
    return skipped
  }

  private async stamp(): Promise<string> {
    const { driver, path } = this.session!.target.device
    if (driver.stamp === undefined) throw new StorageError('UNSUPPORTED', 'no stamp', path)
    return driver.stamp()
  }

  private async claim(epoch: number): Promise<string> {
    if (Number.isNaN(epoch)) throw new StorageError('INVALID', 'an epoch beyond 2^53')
    await this.sessions.claim(this.session!, epoch)
    return ''
  }

  private async claimed(): Promise<string> {
    return encodeClaimed(await this.sessions.claimed(this.session!))
  }

  private control(slot: number, sequence: number, result: Promise<string>): void {
    if (++this.controls > controlsMax) this.kick('too many questions at once')
    result
      .then(
        (text) => this.answerControl(statusOk, slot, sequence, text),
        (error: unknown) => {
          const { code, message } = systemError(error, 'asking the device')
          this.answerControl(statusOf(code), slot, sequence, message)
        },
      )
      .finally(() => this.controls--)
  }

  private answerControl(status: number, slot: number, sequence: number, text: string): void {
    if (!this.over) this.replies.text(status, slot, sequence, text)
  }

  private ping(now: number): void {
    if (this.over || now - this.pingedAt < pingInterval) return
    this.pingedAt = now
    this.replies.bare(Kind.ping, statusOk, 0, 0)
  }

  private endIfDrained(): void {
    if (this.over || this.inFlight > 0) return
    this.over = true
    this.outbox.flush()
    this.connection.end()
  }
}

type Refusal = 'FENCED' | 'READ_ONLY'
