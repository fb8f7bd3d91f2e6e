import type { StorageError } from '../base/errors.ts'
import type { Device } from '../device/device.ts'
import { Operation, type Request } from '../device/request.ts'
import { Inbox } from '../net/inbox.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import { Outbox } from '../net/outbox.ts'
import { Stint } from '../net/stint.ts'
import type { Room, Waiter } from './admission.ts'
import { Landing, type Progress } from './landing.ts'
import { Pacer, type Paced } from './pace.ts'
import type { ServiceContext } from './service.ts'

/** A stage of a protocol, which reads what the client sends; a connection may have several. */
export interface Phase {
  /**
   * Takes in one message of the inbox. False when there is nothing more to do before bytes land, or
   * before the intake or the phase itself can go on.
   */
  step(): boolean
  /** The payload of a write that was handed to `Intake.land` is all here. */
  arrived(request: Request): void
  /** True while it waits for something of its own; it calls `Intake.wake` when that is over. */
  readonly waits: boolean
  /** The socket has sent some bytes, and does not refer to them any more. */
  sent(): void
  /** The connection is gone, and so is the request whose payload was landing. */
  closed(reason: StorageError | null): void
}

/** Bytes reserved for a request: its payload, and the largest answer without it. */
export type RoomOf = (operation: Operation, length: number) => number

/**
 * Why nothing is taken in:
 *  - phase: the phase waits for something of its own
 *  - limits: the connection has enough under way, until answers have left
 *  - rate: the client has been fast enough, or others of the same export
 *  - room: others have it
 *  - turn: it is that of others
 *  - end: the connection drains
 */
type Stall = 'nothing' | 'phase' | 'limits' | 'rate' | 'room' | 'turn' | 'end'

/**
 * One connection of a client, the same for every protocol that is served: bytes in, as long as
 * there is room for what they ask, and answers out.
 *
 * A request's room is reserved before it is taken in, a large payload's as it lands, and given back
 * as the answer leaves the socket. Whatever has no room yet stays in the socket.
 */
export class Intake implements ConnectionHandler, Waiter, Paced {
  readonly context: ServiceContext
  readonly connection: Connection
  readonly inbox: Inbox
  readonly outbox: Outbox
  readonly room: Room
  /** Follows the pace of the export, once there is one. */
  readonly pacer = new Pacer(this)
  /** How many requests the device has. */
  inFlight = 0
  /** How many it may have. */
  inFlightMax: number
  /** True once nothing is read and nothing answered. */
  over = false
  /** Set when bytes land; cleared by the code that times the client's silence. */
  heard = false
  private phase!: Phase
  private readonly roomOf: RoomOf
  private readonly arriving: Landing
  private readonly stint: Stint
  private stalledBy: Stall = 'nothing'
  /** The request that waits for limits: its bytes; whether earlier answers have to leave first. */
  private wanted = 0
  private early = false
  /** Whether the device answered the last read before it returned from it. */
  private prompt = false
  private pumping = false
  /** Bytes in the outbox that all clients share, and that count for none of them. */
  private uncounted = 0
  /** Monotonic, milliseconds: when a payload began to land; its waits for room do not count. */
  private landingSince = 0
  /** Monotonic, milliseconds: when the last wait for room began. */
  private waitingSince = 0
  /** Monotonic, milliseconds: when the client was last seen to take replies fast enough. */
  private sentAt: number
  /** Whether a batch left since the last look, and how many have to have left in time. */
  private hasSent = false
  private due = 0

  constructor(context: ServiceContext, connection: Connection, roomOf: RoomOf) {
    this.context = context
    this.connection = connection
    this.roomOf = roomOf
    this.inFlightMax = context.limits.requestsPerConnection
    this.inbox = new Inbox(context.slab)
    this.outbox = new Outbox(connection, context.slab, context.clock)
    this.room = context.admission.join(connection.origin, this)
    this.arriving = new Landing(this.inbox, this.room)
    this.stint = new Stint(context.clock, () => {
      if (this.stalledBy === 'turn') this.goOn()
    })
    this.sentAt = context.clock.now()
  }

  /** Has `phase` read what comes from now on. */
  begin(phase: Phase): void {
    this.phase = phase
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
    this.outbox.leave(this.inbox.filled ? 'later' : 'now')
  }

  sent(): void {
    this.hasSent = true
    const queued = this.outbox.bytesQueued
    this.outbox.sent()
    this.letGo(queued - this.outbox.bytesQueued)
    this.phase.sent()
    this.wake()
  }

  closed(reason: StorageError | null): void {
    this.over = true
    this.pacer.leave()
    this.room.leave()
    if (this.arriving.request !== null) this.dropLanding()
    this.letGo(this.outbox.bytesQueued)
    this.inbox.close()
    this.outbox.close()
    this.phase.closed(reason)
  }

  admitted(): void {
    if (this.stalledBy !== 'room') return
    // The time that it waited for others is not counted.
    this.landingSince += this.context.clock.now() - this.waitingSince
    this.goOn()
  }

  paced(): void {
    if (this.stalledBy === 'rate') this.goOn()
  }

  /** Goes on if it waited for the phase or for limits, and that is over. */
  wake(): void {
    const { stalledBy } = this
    if (stalledBy === 'phase' ? !this.phase.waits : stalledBy === 'limits' && !this.isFull())
      this.goOn()
  }

  /** Takes no more requests, has those in flight answered, then closes. */
  drain(): void {
    this.stall('end')
    this.stalledBy = 'end'
    this.pacer.leave()
    this.endIfDrained()
  }

  /** Sends what is queued, then closes. */
  end(): void {
    this.over = true
    this.outbox.flush()
    this.connection.end()
  }

  /** Closes at once. */
  destroy(): void {
    this.over = true
    this.inbox.stall()
    this.connection.destroy()
  }

  /**
   * Takes room for a request; for a write, with the part of its payload that lands first. False
   * when there is none: the phase is called again for the same message when there may be some.
   */
  reserve(operation: Operation, length: number): boolean {
    const bytes = this.roomOf(operation, length)
    this.wanted = bytes
    this.early = operation === Operation.read && this.prompt
    if (this.isFull()) return this.stall('limits')
    // Before room is taken: who waits for long holds nothing that others could use.
    if (!this.pacer.may(operation, length)) return this.stall('rate')
    const later = operation === Operation.write ? length - Landing.firstStep(length) : 0
    if (!this.room.reserve(bytes - later, later)) return this.stall('room')
    this.pacer.used()
    return true
  }

  /** True when other connections have their turn before the next request, of about `bytes`. */
  mustRest(bytes: number): boolean {
    return this.stint.over(bytes) && !this.stall('turn')
  }

  /** Has the payload of a write land that has its room. True when all is here and was taken in. */
  land(request: Request, length: number): boolean {
    const progress = this.arriving.begin(request, length)
    if (progress !== 'here') this.landingSince = this.context.clock.now()
    return this.progress(progress)
  }

  /** Drops a payload, which has to come in time like one that is kept. False until all is here. */
  skip(bytes: number): boolean {
    if (this.inbox.skip(bytes)) return true
    this.landingSince = this.context.clock.now()
    return false
  }

  /** Submits the request to the device; its completer counts it out and calls `answered`. */
  submit(request: Request, device: Device): void {
    const { operation } = request
    const inFlight = ++this.inFlight
    device.submit(request)
    if (operation === Operation.read) this.prompt = this.inFlight < inFlight
  }

  /** A request was answered, or dropped because the connection is over. */
  answered(): void {
    if (this.pumping || this.over) return
    this.send()
    this.wake()
    this.endIfDrained()
  }

  /** Sends what is queued: with the turn's end, or now if nothing could join it until then. */
  send(): void {
    if (this.inFlight === 0 && !this.inbox.filled) this.outbox.flush()
    else this.outbox.schedule()
  }

  /** Queues bytes that never change; they count, but do not wait for room. */
  charge(bytes: Buffer): void {
    this.room.charge(bytes.length)
    this.outbox.lend(bytes)
  }

  /** Queues bytes that never change and that all clients share: they do not count. */
  share(bytes: Buffer): void {
    this.uncounted += bytes.length
    this.outbox.lend(bytes)
  }

  /** True while nothing is read because the client, or others of its export, went too fast. */
  get throttled(): boolean {
    return this.stalledBy === 'rate'
  }

  /** True while nothing is read, so that silence of the client means nothing. */
  get stalled(): boolean {
    return this.stalledBy !== 'nothing'
  }

  /**
   * Why the client has to be dropped: it does not send what it announced, or does not read what it
   * asked for; null when all is well. Called about once a second, with monotonic milliseconds.
   */
  whyLate(now: number): string | null {
    const { outbox, inbox } = this
    const { sendTimeout } = this.context.limits
    // A client that holds no more than is left for others may be slow, as long as it takes some.
    if (outbox.batchesSent >= this.due || (this.hasSent && !this.room.hinders)) {
      this.sentAt = now
      this.due = outbox.batchesFlushed
    }
    this.hasSent = false
    if (now - this.sentAt > sendTimeout) return 'it does not read its replies'
    // A byte now and then is no silence, but others wait for the room of its payload. A connection
    // that drains is not read, and keeps that room no longer than its requests in flight.
    const lands = !this.stalled && inbox.awaiting && now - this.landingSince > sendTimeout
    return lands ? 'a payload does not come' : null
  }

  private pump(): void {
    if (this.pumping) return
    this.pumping = true
    this.stint.begin()
    while (!this.over && this.step());
    this.pumping = false
    this.endIfDrained()
  }

  private step(): boolean {
    if (this.stalledBy === 'end') return false
    const { arriving, phase } = this
    if (arriving.request !== null && !this.progress(arriving.goOn())) return false
    return phase.waits ? this.stall('phase') : phase.step()
  }

  private progress(progress: Progress): boolean {
    if (progress === 'here') this.phase.arrived(this.arriving.end())
    // The phase may have closed the connection: then nothing else is taken in.
    return progress === 'waiting' ? this.stall('room') : progress === 'here' && !this.over
  }

  /** Whether this connection has too much under way for what it wants next. */
  private isFull(): boolean {
    const { room, outbox } = this
    // A request that is alone may have any size: room that a question holds does not count here.
    const alone = this.inFlight === 0 && outbox.bytesQueued === 0
    return (
      (this.early && outbox.full) ||
      this.inFlight >= this.inFlightMax ||
      (!alone && room.held + this.wanted > this.context.limits.bytesPerConnection)
    )
  }

  private stall(by: Stall): false {
    if (this.stalledBy !== 'nothing') return false
    this.stalledBy = by
    if (by === 'room') this.waitingSince = this.context.clock.now()
    this.inbox.stall()
    this.connection.pause()
    return false
  }

  private goOn(): void {
    if (this.over) return
    this.stalledBy = 'nothing'
    this.inbox.unstall()
    this.connection.resume()
    this.pump()
    this.send()
  }

  private endIfDrained(): void {
    if (this.stalledBy === 'end' && this.inFlight === 0 && !this.over) this.end()
  }

  /** The socket has let go of so many bytes: gives their room back. */
  private letGo(bytes: number): void {
    const uncounted = Math.min(bytes, this.uncounted)
    this.uncounted -= uncounted
    this.room.giveBack(bytes - uncounted)
  }

  /** Lets go of a write whose payload did not land in full. */
  private dropLanding(): void {
    const { rest } = this.arriving
    const request = this.arriving.end()
    this.room.giveBack(this.roomOf(Operation.write, request.length) - rest)
    request.abandon()
  }
}
