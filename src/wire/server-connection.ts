import type { StorageError } from '../base/errors.ts'
import { Flag, isChange, Operation, Request, type Completer } from '../device/request.ts'
import { stagedPayloadMax } from '../net/inbox.ts'
import { provenKey, provenName } from '../net/identity.ts'
import type { Connection } from '../net/network.ts'
import { callerOf, cutShort, type AuditEvent } from '../export/audit.ts'
import type { Entrance, Exports } from '../export/export.ts'
import { Intake, type Phase } from '../export/intake.ts'
import { rightsHaveChanged } from '../export/rights.ts'
import type { ServiceContext } from '../export/service.ts'
import { checksumOf, Command, decodeRequest, newRequestHeader, requestBytes } from './codec.ts'
import { Greeter, type Announced } from './greeter.ts'
import { Feature, type WireFacts } from './hello.ts'
import { Liveness } from './liveness.ts'
import { ask, isQuestion } from './questions.ts'
import { Replies, replyOverheadBytes, roomOf } from './replies.ts'
import type { SessionConnection } from './session-connection.ts'
import { slotsMax, type Session, type Sessions } from './session.ts'
import { sentenceOf, statusChecksum, statusOf, statusOk } from './status.ts'

/** Bytes of replies, payload apart, that may wait for a client before we stop reading from it. */
const repliesBytesMax = 64 * 1024
/** Questions under way on one connection that are no requests. */
const questionsMax = 16

const flagsKnown = Flag.fua | Flag.fastZero | Flag.noHole

/** What all connections by one way in share. */
interface Shared {
  readonly sessions: Sessions
  readonly announced: Announced
  readonly entrance: Entrance
  /** Called once, when the connection is gone. */
  readonly onClosed: (connection: ServerConnection) => void
}

/** One connection of a client: requests to the device, replies out. */
export class ServerConnection implements Phase, Completer, SessionConnection {
  readonly peer: string
  index = 0
  session: Session | null = null
  readonly intake: Intake
  private readonly context: ServiceContext
  private readonly sessions: Sessions
  private readonly entrance: Entrance
  private readonly greeter: Greeter
  private readonly replies: Replies
  private readonly onClosed: (connection: ServerConnection) => void
  private checksums = false
  private fencing = false
  private readonly header = newRequestHeader()
  private arrivingChecksum = 0
  private questions = 0
  /** Why it was closed here; '' while it was not. */
  private reason = ''
  private isRefused = false
  private factsWaiting: WireFacts | null = null
  private readonly liveness: Liveness

  constructor(connection: Connection, context: ServiceContext, shared: Shared) {
    const { sessions, announced, entrance, onClosed } = shared
    this.peer = connection.peer
    this.context = context
    this.sessions = sessions
    this.entrance = entrance
    this.onClosed = onClosed
    this.intake = new Intake(context, connection, roomOf)
    this.intake.begin(this)
    this.replies = new Replies(this.intake.outbox, this.intake.room, context.slab)
    const seen = (): Exports => entrance.seenBy(connection.identity)
    this.greeter = new Greeter(this, context, { sessions, announced, seen })
    this.liveness = new Liveness(this.intake, context.clock.now())
  }

  get waits(): boolean {
    return this.greeter.waiting || this.repliesWaiting > repliesBytesMax
  }

  sent(): void {
    if (this.factsWaiting !== null) this.tellFacts(this.factsWaiting)
  }

  closed(reason: StorageError | null): void {
    if (reason !== null) this.tellBroken(reason)
    this.noteEnd(reason)
    if (this.session !== null) this.sessions.detach(this.session, this)
    else this.greeter.closed()
    this.onClosed(this)
  }

  private tellBroken(reason: StorageError): void {
    const { log } = this.context
    const { peer } = this
    if (reason.code !== 'PROTOCOL')
      log.debug({ peer, err: reason }, 'a connection of a client broke')
    else log.info({ peer, reason: reason.message }, 'a client was cut off, by what TLS found')
  }

  /** Notes what became of the client, with who it is. */
  note(event: AuditEvent): void {
    const { audit } = this.context
    if (event.event === 'refuse') this.isRefused = true
    audit?.({ ...callerOf(this.intake.connection), protocol: 'dst', ...event })
  }

  private noteEnd(broken: StorageError | null): void {
    const { session, index } = this
    const tells = session !== null || broken?.code === 'PROTOCOL'
    const reason = this.reason !== '' || !tells ? this.reason : (broken?.message ?? '')
    if (session !== null)
      this.note({ event: 'disconnect', export: session.target.name, connection: index, reason })
    else if (reason !== '' && !this.isRefused) this.note({ event: 'refuse', reason })
  }

  get identity(): string {
    return provenName(this.intake.connection.identity)
  }

  /** What the session of this connection is bound to. */
  get owner(): string {
    return provenKey(this.intake.connection.identity)
  }

  /** The hello was accepted; requests come now. */
  welcomed(session: Session, index: number, depth: number, features: number): void {
    this.session = session
    this.index = index
    this.intake.inFlightMax = depth
    this.checksums = (features & Feature.checksums) !== 0
    this.fencing = (features & Feature.fencing) !== 0
    this.replies.checksums = this.checksums
    this.recheck()
  }

  /** Follows the rules of the export as they are now; ends when they say another thing. */
  recheck(): void {
    const { session, intake, entrance } = this
    if (session === null || intake.over) return
    const { identity } = intake.connection
    const { name } = session.target
    if (entrance.seenBy(identity).find(name) === session.target)
      intake.pacer.follow(entrance.paceOf?.(identity, name) ?? null)
    else {
      session.mayDiffer = true
      this.reason = rightsHaveChanged
      this.context.log.info({ peer: this.peer, export: name }, `a client is let go: ${this.reason}`)
      intake.drain()
    }
  }

  /** Closes at once: the peer broke the protocol, or must not go on. */
  kick(reason: string): void {
    this.context.log.info({ peer: this.peer, reason }, 'closing a connection of a client')
    this.reason = reason
    this.intake.destroy()
  }

  tellFacts(facts: WireFacts): void {
    if (this.intake.over || this.session === null) return
    // They come unasked, so that nothing else bounds them: of too many the last are told, later.
    this.factsWaiting = this.repliesWaiting > 2 * repliesBytesMax ? facts : null
    if (this.factsWaiting === null) this.replies.facts(facts)
  }

  tellFenced(fence: number): void {
    this.context.log.warn(
      { peer: this.peer, export: this.session?.target.name, fence },
      'a client was fenced: another one has claimed the device with a higher fence number',
    )
    this.note({ event: 'fence', export: this.session?.target.name ?? '', fence })
    if (!this.intake.over && this.fencing) this.replies.fenced(fence)
  }

  /**
   * Closes the connection when for too long the client is silent or does not read. Called about
   * once a second, with monotonic milliseconds.
   */
  tick(now: number): void {
    const verdict = this.liveness.look(now, this.session === null ? 'greeting' : 'welcomed')
    if (verdict !== null && verdict !== 'ping') this.kick(verdict)
    else if (verdict === 'ping' && !this.intake.over) this.replies.ping()
  }

  completed(request: Request): void {
    const { intake } = this
    const { operation, tag: slot, error } = request
    const status = error === null ? statusOk : statusOf(error.code)
    intake.inFlight--
    this.session!.finish(slot, status, operation)
    if (intake.over) intake.room.giveBack(roomOf(operation, request.length))
    else this.replies.completed(request, status)
    request.release()
    intake.answered()
  }

  /** Takes in one message. */
  step(): boolean {
    const { header, intake } = this
    const { inbox } = intake
    if (this.session === null) return this.greeter.greet()
    if (!inbox.need(requestBytes)) return false
    if (decodeRequest(inbox.bytes, inbox.at, header, this.checksums) !== null) {
      this.kick('a header is damaged')
      return false
    }
    if (intake.mustRest(header.length)) return false
    const known = header.command >= Command.read && header.command <= Command.status
    return known ? this.takeRequest(this.session) : this.takeControl()
  }

  /** All of the request is here. */
  arrived(request: Request): void {
    const session = this.session!
    const { operation, tag: slot, tagHigh: sequence } = request
    const damaged =
      operation === Operation.write &&
      this.checksums &&
      checksumOf(request.segments) !== this.arrivingChecksum
    // While this landed a head may have claimed the device, and waited for what was under way.
    const forbidden = this.forbidden(session, operation)
    if (damaged || forbidden !== null) {
      const status = damaged ? statusChecksum : statusOf(forbidden!)
      this.intake.room.giveBack(roomOf(operation, request.length) - replyOverheadBytes)
      this.replies.answer(status, slot, sequence)
      request.abandon()
      return
    }
    session.begin(slot, sequence, operation)
    this.intake.submit(request, session.target.device)
  }

  /** Bytes, payload apart. */
  private get repliesWaiting(): number {
    const { outbox } = this.intake
    return outbox.bytesQueued - outbox.payloadQueued
  }

  private takeRequest(session: Session): boolean {
    const { header, intake } = this
    const { inbox } = intake
    const { command, flags, slot, sequence, offset, length, payload } = header
    const operation = (command - 1) as Operation
    if (slot >= slotsMax || session.busy(slot)) {
      this.kick('a request is not in order')
      return false
    }
    const refusal = this.check(session, operation)
    const answered = isChange(operation) ? session.recall(slot, sequence) : -1
    if (refusal !== null || answered >= 0) {
      if (!intake.reserve(Operation.flush, 0)) return false
      inbox.consume(requestBytes)
      const skipped = intake.skip(payload)
      if (refusal === null) this.replies.answer(answered, slot, sequence)
      else this.replies.answer(statusOf(refusal), slot, sequence, sentenceOf(refusal))
      return skipped
    }
    const staged = operation === Operation.write && length <= stagedPayloadMax
    if (staged && !inbox.need(requestBytes + length)) return false
    if (!intake.reserve(operation, length)) return false
    inbox.consume(requestBytes)
    const flush = operation === Operation.flush
    const request = Request.take(operation, flush ? 0 : offset, flush ? 0 : length, flags, this)
    request.tag = slot
    request.tagHigh = sequence
    if (operation !== Operation.write) {
      this.arrived(request)
      return true
    }
    this.arrivingChecksum = header.payloadChecksum
    return intake.land(request, length)
  }

  /** Why the request is refused before the device is asked; null if it is not. */
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

  private takeControl(): boolean {
    const { header, intake } = this
    const { command, slot, sequence, offset, payload } = header
    if (command !== Command.pong && !intake.reserve(Operation.flush, 0)) return false
    intake.inbox.consume(requestBytes)
    const skipped = intake.skip(payload)
    if (command === Command.ping) this.replies.pong(slot, sequence)
    else if (isQuestion(command)) this.question(command, offset)
    else if (command !== Command.pong)
      this.replies.answer(statusOf('UNSUPPORTED'), slot, sequence, 'unknown command')
    return skipped
  }

  private question(command: number, fence: number): void {
    const { slot, sequence } = this.header
    if (this.questions === questionsMax) {
      this.intake.room.giveBack(replyOverheadBytes)
      this.kick('too many questions at once')
      return
    }
    this.questions++
    const { log } = this.context
    const fields = { peer: this.peer, export: this.session!.target.name, fence }
    void ask(this.sessions, this.session!, command, fence).then(({ status, text }) => {
      this.questions--
      if (command === Command.claim) {
        log.info({ ...fields, status }, tellClaim(fence, status))
        const outcome = status === statusOk ? 'done' : cutShort(text)
        this.note({ event: 'claim', export: fields.export, fence, outcome })
      }
      const { over, room } = this.intake
      if (over) room.giveBack(replyOverheadBytes)
      else this.replies.answer(status, slot, sequence, text)
    })
  }
}

function tellClaim(fence: number, status: number): string {
  if (status !== statusOk) return 'a claim of a DST/1 client was refused'
  return fence === 0 ? 'a DST/1 client gave its claim up' : `a DST/1 client claimed with ${fence}`
}

type Refusal = 'INVALID' | 'RANGE' | 'TOO_LARGE' | 'FENCED' | 'READ_ONLY'
