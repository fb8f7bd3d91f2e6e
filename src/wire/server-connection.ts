import type { StorageError } from '../base/errors.ts'
import { Flag, isChange, Operation, Request, type Completer } from '../device/request.ts'
import { Inbox, stagedPayloadMax } from '../net/inbox.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import { Outbox } from '../net/outbox.ts'
import { Stint } from '../net/stint.ts'
import type { Room, Waiter } from '../export/admission.ts'
import { Landing, type Progress } from '../export/landing.ts'
import type { ServiceContext } from '../export/service.ts'
import { checksumOf, Command, decodeRequest, newRequestHeader, requestBytes } from './codec.ts'
import { Greeter, type Announced } from './greeter.ts'
import { Feature, type WireFacts } from './hello.ts'
import { Liveness } from './liveness.ts'
import { ask, isQuestion } from './questions.ts'
import { Replies, replyOverheadBytes, roomOf } from './replies.ts'
import { slotsMax, type Session, type SessionConnection, type Sessions } from './session.ts'
import { sentenceOf, statusChecksum, statusOf, statusOk } from './status.ts'

/** Bytes of replies, payload apart, that may wait for a client before it is not listened to. */
const repliesBytesMax = 64 * 1024
/** Questions under way on one connection that are no requests. */
const questionsMax = 16

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
  private readonly room: Room
  /** The write whose payload is landing. */
  private readonly arriving: Landing
  private arrivingChecksum = 0
  /** Monotonic, milliseconds: when its payload began to land, or went on after a wait for room. */
  private landingSince = 0
  private questions = 0
  /** Whether the device answered the last read before it returned from it. */
  private prompt = false
  private pumping = false
  private readonly stint: Stint
  private stalled = false
  private awaitingRoom = false
  private draining = false
  private factsWaiting: WireFacts | null = null
  /** Bytes in the outbox that all clients share, and that count for none of them. */
  private uncounted = 0
  /** Nothing is read and nothing answered any more. */
  private over = false
  private readonly liveness: Liveness

  constructor(
    connection: Connection,
    context: ServiceContext,
    sessions: Sessions,
    announced: Announced,
    onClosed: (connection: ServerConnection) => void,
  ) {
    this.connection = connection
    this.peer = connection.peer
    this.context = context
    this.sessions = sessions
    this.onClosed = onClosed
    this.inbox = new Inbox(context.slab)
    this.outbox = new Outbox(connection, context.slab, context.clock)
    this.room = context.admission.join(connection.origin, this)
    this.arriving = new Landing(this.inbox, this.room)
    this.replies = new Replies(this.outbox, this.room, context.slab)
    this.greeter = new Greeter(this, context, sessions, announced)
    this.stint = new Stint(context.clock, () => this.wake())
    const { limits, clock } = context
    this.liveness = new Liveness(limits, this.outbox, this.room, clock.now())
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    this.liveness.heard = true
    if (!this.inbox.landed(bytes)) return
    // Answers leave together; at once, unless more was asked already.
    this.outbox.gather()
    this.pump()
    this.outbox.leave(!this.inbox.filled)
  }

  sent(): void {
    this.liveness.sent = true
    const queued = this.outbox.bytesQueued
    this.outbox.sent()
    this.letGo(queued - this.outbox.bytesQueued)
    if (this.factsWaiting !== null) this.tellFacts(this.factsWaiting)
    this.wake()
  }

  closed(reason: StorageError | null): void {
    this.over = true
    if (reason !== null)
      this.context.log.debug({ peer: this.peer, err: reason }, 'a connection of a client broke')
    this.room.leave()
    if (this.arriving.request !== null) this.dropLanding()
    this.letGo(this.outbox.bytesQueued)
    this.inbox.close()
    this.outbox.close()
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
    const landingSince = this.inbox.awaiting ? this.landingSince : null
    const { stalled } = this
    const verdict = this.liveness.look(now, {
      greeted: this.session !== null,
      stalled,
      landingSince,
    })
    if (verdict !== null && verdict !== 'ping') this.kick(verdict)
    else if (verdict === 'ping' && !this.over) this.replies.ping()
  }

  /** Goes on reading, once whatever held it up is over. */
  wake(): void {
    if (!this.stalled || (this.arriving.request === null ? this.held() : this.landingHeld())) return
    this.stalled = false
    this.inbox.unstall()
    this.connection.resume()
    this.pump()
  }

  admitted(): void {
    this.awaitingRoom = false
    this.landingSince = this.context.clock.now()
    this.wake()
  }

  /** Closes at once: the peer broke the protocol, or must not go on. */
  refuse(): void {
    this.over = true
    this.connection.destroy()
  }

  /** Sends a first message. `end`: and closes. */
  send(message: Buffer, end: boolean): void {
    this.room.charge(message.length)
    this.outbox.lend(message)
    this.outbox.flush()
    if (!end) return
    this.over = true
    this.connection.end()
  }

  /** Sends what all clients share, and closes. */
  sendListing(listing: Buffer): void {
    this.uncounted = listing.length
    this.outbox.lend(listing)
    this.outbox.flush()
    this.over = true
    this.connection.end()
  }

  /** The socket holds so many bytes less. */
  private letGo(bytes: number): void {
    const uncounted = Math.min(bytes, this.uncounted)
    this.uncounted -= uncounted
    this.room.giveBack(bytes - uncounted)
  }

  completed(request: Request): void {
    const { operation, tag: slot, error } = request
    const status = error === null ? statusOk : statusOf(error.code)
    this.inFlight--
    this.session!.finish(slot, status, isChange(operation))
    if (this.over) this.room.giveBack(roomOf(operation, request.length))
    else {
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
    if (this.arriving.request !== null && !this.land(this.arriving.goOn())) return false
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
      this.landingHeld() ||
      this.greeter.waiting ||
      (this.session !== null && this.inFlight >= this.depth) ||
      this.room.held >= this.context.limits.bytesPerConnection ||
      this.repliesWaiting > repliesBytesMax
    )
  }

  /** What holds up also a payload of which a part is here. */
  private landingHeld(): boolean {
    return this.draining || this.awaitingRoom || this.stint.resting
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
      if (!this.reserve(Operation.flush, 0)) return false
      inbox.consume(requestBytes)
      const skipped = this.skip(payload)
      if (refusal === null) this.replies.answer(answered, slot, sequence)
      else this.replies.answer(statusOf(refusal), slot, sequence, sentenceOf(refusal))
      return skipped
    }
    const staged = operation === Operation.write && length <= stagedPayloadMax
    if (staged && !inbox.need(requestBytes + length)) return false
    if (operation === Operation.read && this.prompt && this.outbox.full) return this.stall()
    if (!this.reserve(operation, length)) return false
    inbox.consume(requestBytes)
    const flush = operation === Operation.flush
    const request = Request.take(operation, flush ? 0 : offset, flush ? 0 : length, flags, this)
    request.tag = slot
    request.tagHigh = sequence
    if (operation !== Operation.write) {
      this.submitArrived(request)
      return !this.over
    }
    this.arrivingChecksum = header.payloadChecksum
    this.landingSince = this.context.clock.now()
    return this.land(this.arriving.begin(request, length))
  }

  /** Submits the write whose payload is here; false when the rest of it has to be waited for. */
  private land(progress: Progress): boolean {
    if (progress === 'waiting') return this.awaitRoom()
    if (progress === 'here') this.submitArrived(this.arriving.end())
    return progress === 'here' && !this.over
  }

  /** What can be said before the device is asked. */
  private check(session: Session, operation: Operation): Refusal | null {
    const { flags, length, payload, offset } = this.header
    if ((flags & ~flagsKnown) !== 0) return 'INVALID'
    // No number says exactly where: it is beyond the end of any device.
    if (Number.isNaN(offset) && operation !== Operation.flush) return 'RANGE'
    if (payload !== (operation === Operation.write ? length : 0)) return 'INVALID'
    if (operation <= Operation.write && length > this.context.limits.payload) return 'TOO_LARGE'
    return this.forbidden(session, operation)
  }

  private forbidden(session: Session, operation: Operation): 'FENCED' | 'READ_ONLY' | null {
    if (session.replaced) return 'FENCED'
    if (operation === Operation.read || operation === Operation.status) return null
    if (session.fenced) return 'FENCED'
    return session.target.readOnly && operation !== Operation.flush ? 'READ_ONLY' : null
  }

  private reserve(operation: Operation, length: number): boolean {
    const bytes = roomOf(operation, length)
    const later = operation === Operation.write ? length - Landing.firstStep(length) : 0
    return this.room.reserve(bytes - later, later) || this.awaitRoom()
  }

  private awaitRoom(): false {
    this.awaitingRoom = true
    return this.stall()
  }

  /** All of the request is here. */
  private submitArrived(request: Request): void {
    const session = this.session!
    const { operation, tag: slot, tagHigh: sequence } = request
    const damaged =
      operation === Operation.write &&
      this.checksums &&
      checksumOf(request.segments) !== this.arrivingChecksum
    // Somebody may have claimed the device, and waited for what was under way, while this landed.
    const forbidden = this.forbidden(session, operation)
    if (damaged || forbidden !== null) {
      const status = damaged ? statusChecksum : statusOf(forbidden!)
      this.room.giveBack(roomOf(operation, request.length) - replyOverheadBytes)
      this.replies.answer(status, slot, sequence)
      request.abandon()
      return
    }
    session.begin(slot, sequence, isChange(operation))
    const inFlight = ++this.inFlight
    session.target.device.submit(request)
    if (operation === Operation.read) this.prompt = this.inFlight < inFlight
  }

  /** Lets go of a write that nobody was given. */
  private dropLanding(): void {
    const { rest } = this.arriving
    const request = this.arriving.end()
    this.room.giveBack(roomOf(Operation.write, request.length) - rest)
    request.abandon()
  }

  private takeControl(): boolean {
    const { inbox, header } = this
    const { command, slot, sequence, offset, payload } = header
    if (command !== Command.pong && !this.reserve(Operation.flush, 0)) return false
    inbox.consume(requestBytes)
    const skipped = this.skip(payload)
    if (command === Command.ping) this.replies.pong(slot, sequence)
    else if (isQuestion(command)) this.question(command, offset)
    else if (command !== Command.pong)
      this.replies.answer(statusOf('UNSUPPORTED'), slot, sequence, 'unknown command')
    return skipped
  }

  /** Drops a payload, which has to come in time like one that is kept. */
  private skip(payload: number): boolean {
    this.landingSince = this.context.clock.now()
    return this.inbox.skip(payload)
  }

  private question(command: number, epoch: number): void {
    const { slot, sequence } = this.header
    if (this.questions === questionsMax) {
      this.room.giveBack(replyOverheadBytes)
      this.kick('too many questions at once')
      return
    }
    this.questions++
    const { log } = this.context
    const fields = { peer: this.peer, export: this.session!.target.name, epoch }
    void ask(this.sessions, this.session!, command, epoch).then(({ status, text }) => {
      this.questions--
      if (command === Command.claim) log.info({ ...fields, status }, tellClaim(epoch, status))
      if (this.over) this.room.giveBack(replyOverheadBytes)
      else this.replies.answer(status, slot, sequence, text)
    })
  }

  private endIfDrained(): void {
    if (this.over || this.inFlight > 0) return
    this.over = true
    this.outbox.flush()
    this.connection.end()
  }
}

function tellClaim(epoch: number, status: number): string {
  if (status !== statusOk) return 'a claim of a DST/1 client was refused'
  return epoch === 0 ? 'a DST/1 client gave its claim up' : `a DST/1 client claimed with ${epoch}`
}

type Refusal = 'INVALID' | 'RANGE' | 'TOO_LARGE' | 'FENCED' | 'READ_ONLY'
