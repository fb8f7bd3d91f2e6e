import type { Bitmap } from '../base/bitmap.ts'
import type { Clock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { MiB } from '../base/size.ts'
import type { Device } from '../device/device.ts'
import { restartsOf } from '../device/facts.ts'
import { Flag, Operation, Request, type Completer } from '../device/request.ts'
import { BackOff } from './back-off.ts'
import { blockGeometryOf, type BlockSet } from './data/blocks.ts'
import { DirtyMap } from './data/dirty-map.ts'
import { metadataEnd } from './layout.ts'
import { Waiter, type LegCaller } from './leg-caller.ts'
import type { Member } from './record.ts'
import type { Coming, Finishing, RunLeg, Stage } from './rules/run.ts'
import { Superblocks } from './superblocks.ts'
import type { Volume } from './volume.ts'

/**
 * Bytes of zeroes that are asked for at once where a leg may have to write them: few enough that a
 * leg with a MB per second answers within the time that it has for one request.
 */
export const zeroBytesMax = 8 * MiB

/** Whom a leg tells. */
export interface LegHooks {
  /** The first request goes under way. */
  onBusy(): void
  /** It may be able to come back. */
  onReady(): void
}

/** One leg as the running volume knows it, and every request that it has under way. */
export class Leg implements Completer, RunLeg {
  readonly name: string
  readonly device: Device
  readonly readLast: boolean
  /** Null until the volume's record is known and names this leg. */
  member: Member | null = null
  /** Why it may not take part, '' if it may. Forgotten when that may have passed. */
  refusal = ''
  /** What it is in the run. */
  stage: Stage = 'absent'
  announcedBy = 0
  coming: Coming | null = null
  finishing: Finishing | null = null
  /** Of a leg not in sync: what it lacks. */
  dirty: DirtyMap | null = null
  /** Of an absent leg: what it acknowledged and had not flushed; lost if it rebooted. */
  unflushed: BlockSet | null = null
  /** Writes settled before this moment, see `IntentLog.moment`, are on its stable storage. */
  flushedMoment = 0
  /** What was on its stable storage when its superblock was written last, see `marks.ts`. */
  markedMoment = 0
  /** Whether it lacks only what was in the intent log when the head died. */
  crashed = false
  bootId = ''
  identity = ''
  /** How often its target had restarted when it was looked at last. */
  private restarts: number | null = null
  /** It may not grow before that is over, unless `endNow` is another than it was. */
  private readonly growing = new BackOff()
  private stuckAt = 0
  readonly superblocks = new Superblocks(this)
  /** What a refusal may depend on, as it was last. */
  private noticed = ''
  /** Reads under way, and where the last one ended: for balancing. */
  reads = 0
  lastOffset = 0
  /** It is left in peace until that is over. */
  readonly backOff = new BackOff()
  /** Of reads, since it was last in sync. */
  readErrors = 0
  /** Whether somebody who wants the leg waits until nothing is under way. */
  private wanted = false
  private readonly hooks: LegHooks
  /** Told, if it is wanted, when the last request has ended. */
  private onQuiet: () => void
  /** Told when nothing that changes it is under way, or when it is abandoned. */
  private whenUnchanging: (() => void)[] = []
  /** How often: what is done in steps goes no further once that has changed. */
  timesAbandoned = 0
  /** Requests under way, in no order; a request's `tag` is its place. */
  private readonly underWay: Request[] = []
  /** Counted up by the volume's watchdog; a request's `tagHigh` is when it was submitted. */
  tick = 0
  /** When it answered anything last. */
  private answeredTick = 0

  constructor(name: string, device: Device, readLast: boolean, hooks: LegHooks) {
    this.name = name
    this.device = device
    this.readLast = readLast
    this.hooks = hooks
    this.onQuiet = () => {
      hooks.onReady()
    }
  }

  /** It is a member of the volume. */
  bind(member: Member): void {
    this.member = member
  }

  /** No run has it: what it lacks is not known. */
  forget(): void {
    this.stage = 'absent'
    this.dirty = null
    this.unflushed = null
    this.crashed = false
    this.flushedMoment = 0
    this.markedMoment = 0
  }

  /** It lacks nothing, but for what is noted in the map from now on. */
  lacksNothing(volume: Volume): DirtyMap {
    this.unflushed = null
    return (this.dirty = new DirtyMap(blockGeometryOf(volume)))
  }

  /** It did not take part after all since `lacksNothing`: what it lacked before counts again. */
  lacksAgain(before: DirtyMap, unflushed: Leg['unflushed']): void {
    before.merge(this.dirty!.bits)
    // The other one may have been written over it.
    before.inherit(before.durable)
    if (unflushed !== null) before.missSet(unflushed)
    this.dirty = before
  }

  /** It may lack anything. */
  lacksAll(volume: Volume): void {
    this.dirty ??= this.lacksNothing(volume)
    this.dirty.setAll()
  }

  /** After a crash of the head it lacks what was in the intent log. */
  lacksAfterCrash(volume: Volume, intents: Bitmap): void {
    this.lacksNothing(volume).merge(intents)
    this.crashed = true
  }

  /** Whether all that it lacks is of a crash, as it comes back; the next time it is not. */
  takeCrashed(): boolean {
    const { crashed } = this
    this.crashed = false
    return crashed
  }

  /** What it had not flushed is lost. */
  loseCache(): void {
    const { dirty, unflushed } = this
    if (dirty === null || unflushed === null) return
    dirty.forgetCopies()
    dirty.missSet(unflushed)
    this.unflushed = null
  }

  /** A run begins, in which it is what the record says. */
  startAs({ state }: Member): void {
    this.stage = state === 'in-sync' || state === 'detached' ? state : 'absent'
    if (state !== 'in-sync') return
    this.noteEnd()
    // Versions of before leave it there when a leg was copied whole.
    delete this.member!.whole
    this.readErrors = 0
  }

  /**
   * The member's metadata are where they were found or are about to be written. Found further than
   * they were, only one of the superblocks may be there, and the other where it was.
   */
  noteEnd(): void {
    const member = this.member!
    const { end, superblocks } = this
    const hasMoved = superblocks.serial > 0 && member.size > 0 && end > member.size
    if (hasMoved) member.movesTo = end
    else {
      member.size = end
      delete member.movesTo
    }
  }

  /** It may not take part, for this reason. */
  refuse(reason: string): void {
    this.refusal = reason
  }

  /** It may take part at once, whatever happened. */
  welcome(): void {
    this.refusal = ''
    this.backOff.end()
  }

  /** It could not hold what it grew by: a pause before that is tried again. Whether it is news. */
  getStuck(clock: Clock, least: number, most: number, over: () => void): boolean {
    const again = this.stuckAt === this.endNow
    if (!again) this.growing.end()
    this.stuckAt = this.endNow
    this.growing.begin(clock, least, most, over)
    return !again
  }

  get isStuck(): boolean {
    return !this.growing.isOver && this.stuckAt === this.endNow
  }

  /** Somebody wants it as soon as nothing is under way; false if it is so now. */
  want(): boolean {
    this.wanted = this.pending > 0
    return this.wanted
  }

  /** A read that ends there is about to be submitted; `endRead` when it was answered, or lost. */
  beginRead(to: number): void {
    this.reads++
    this.lastOffset = to
  }

  endRead(): void {
    this.reads--
  }

  /** A tick of the volume's watchdog. */
  passTime(): void {
    this.tick++
  }

  get pending(): number {
    return this.underWay.length
  }

  /** Whether anything under way is more than a question. */
  get changing(): boolean {
    const asks = ({ operation }: Request): boolean =>
      operation === Operation.read || operation === Operation.status
    return !this.underWay.every(asks)
  }

  /** It takes part, and a flush of it succeeded that began at this moment. */
  hasFlushed(moment: number): void {
    this.flushedMoment = Math.max(this.flushedMoment, moment)
    this.unflushed = null
  }

  /** It takes part, and has a superblock that was written when it had flushed up to `moment`. */
  hasMarked(moment: number): void {
    this.markedMoment = Math.max(this.markedMoment, moment)
  }

  /** What settled before it is there even if the leg was put back, or its superblock tells. */
  get safeMoment(): number {
    return this.restarts === null
      ? this.flushedMoment
      : Math.min(this.flushedMoment, this.markedMoment)
  }

  /** Whether its target restarted since it was adopted: what it has now is to be looked at. */
  get hasRestarted(): boolean {
    return restartsOf(this.device) !== this.restarts
  }

  /** Resolves when it is not `changing`, or was abandoned: whoever waits must look. */
  unchanging(): Promise<void> {
    if (!this.changing) return Promise.resolve()
    return new Promise((resolve) => this.whenUnchanging.push(resolve))
  }

  /** Ticks that the request longest under way has waited; 0 when there is none. */
  get oldestTicks(): number {
    let oldest = this.tick
    for (const request of this.underWay) oldest = Math.min(oldest, request.tagHigh)
    return this.tick - oldest
  }

  /** Whether it has answered nothing for so many ticks, though it was asked for what is quick. */
  isSilent(ticks: number): boolean {
    if (this.tick - this.answeredTick <= ticks) return false
    return this.underWay.some(
      ({ operation, tagHigh }) => operation <= Operation.write && this.tick - tagHigh > ticks,
    )
  }

  /** Submits a request that was taken with this leg as its owner. */
  submit(child: Request, caller: LegCaller): void {
    child.context = caller
    child.tag = this.underWay.length
    child.tagHigh = this.tick
    this.underWay.push(child)
    if (child.tag === 0) this.hooks.onBusy()
    this.device.submit(child)
  }

  completed(child: Request): void {
    this.answeredTick = this.tick
    const last = this.underWay.pop()!
    if (last !== child) {
      this.underWay[child.tag] = last
      last.tag = child.tag
    }
    const caller = child.context as LegCaller | null
    if (caller === null) child.release()
    else caller.legDone(this, child)
    if (this.whenUnchanging.length > 0 && !this.changing) this.tellUnchanging()
    if (this.underWay.length > 0 || !this.wanted) return
    this.wanted = false
    this.onQuiet()
  }

  /** Stops waiting for everything under way. The device keeps the requests until it is done. */
  abandon(): void {
    this.timesAbandoned++
    const lost: LegCaller[] = []
    for (const child of this.underWay) {
      if (child.context === null) continue
      lost.push(child.context as LegCaller)
      child.context = null
    }
    for (const caller of lost) caller.legLost(this)
    this.tellUnchanging()
  }

  private tellUnchanging(): void {
    const told = this.whenUnchanging
    this.whenUnchanging = []
    for (const look of told) look()
  }

  /** Resolves when nothing is under way, of a leg that nobody else wants any more. */
  drained(): Promise<void> {
    if (this.pending === 0) return Promise.resolve()
    this.wanted = true
    return new Promise((resolve) => (this.onQuiet = resolve))
  }

  /** Takes the write's flags as far as this leg knows them. */
  flagsFor(flags: number): number {
    return this.device.facts!.fua === 'none' ? flags & ~Flag.fua : flags
  }

  /** Bytes from `offset`, copied; for metadata and comparing, not for clients. */
  async read(offset: number, length: number): Promise<Buffer> {
    const child = await this.carryOut(Operation.read, offset, length, null)
    const bytes = Buffer.allocUnsafe(length)
    child.copyTo(bytes)
    child.release()
    return bytes
  }

  /** Writes `bytes`, which must not change any more, to stable storage. */
  async write(offset: number, bytes: Buffer): Promise<void> {
    const child = await this.carryOut(Operation.write, offset, bytes.length, bytes)
    child.release()
  }

  /** Piece by piece: a leg may have to write them. */
  async zero(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += zeroBytesMax) {
      const piece = Math.min(zeroBytesMax, length - at)
      const child = await this.carryOut(Operation.writeZeroes, offset + at, piece, null)
      child.release()
    }
  }

  async flush(): Promise<void> {
    if (this.device.facts!.flush === 'none') return
    const child = await this.carryOut(Operation.flush, 0, 0, null)
    child.release()
  }

  /** The request after it succeeded; rejects with its error, or when the leg leaves. */
  carryOut(
    operation: Operation,
    offset: number,
    length: number,
    bytes: Buffer | null,
  ): Promise<Request> {
    return new Promise((resolve, reject) => {
      if (this.device.facts === null) {
        reject(new StorageError('UNAVAILABLE', 'the leg was never reached', this.device.path))
        return
      }
      const flags = bytes === null ? 0 : this.flagsFor(Flag.fua)
      const child = Request.take(operation, offset, length, flags, this)
      if (bytes !== null) child.append(bytes, null)
      this.submit(child, new Waiter(resolve, reject))
    })
  }

  /** Submits a write for the mirror itself; rejects when it failed, or the leg leaves. */
  async carryOutWrite(write: Request): Promise<void> {
    const child = await new Promise<Request>((resolve, reject) => {
      this.submit(write, new Waiter(resolve, reject))
    })
    child.release()
  }

  /** Remembers which device it is now. */
  adopt(): void {
    const facts = this.device.facts!
    this.restarts = restartsOf(this.device)
    this.bootId = facts.bootId
    this.identity = facts.identity
    if (this.member === null) return
    this.member.bootId = facts.bootId
    this.member.identity = facts.identity
  }

  /**
   * Whether another device is where the member was: a file that was restored from a copy has the
   * superblock of the day it was copied, and what was written since it has not.
   */
  isAnotherThan({ identity }: Member): boolean {
    return identity !== undefined && this.device.facts?.identity !== identity
  }

  /** A refusal counts no more when the device is away, or says anything else of itself. */
  noticeFacts(): void {
    const { noticed } = this
    const { facts, usable } = this.device
    this.noticed =
      facts === null
        ? ''
        : [facts.size, facts.blockSize, facts.readOnly, facts.identity, facts.bootId].join()
    if (this.noticed !== noticed || !usable) this.refusal = ''
  }

  /** Who is read from rather than whom: the lowest. */
  get tier(): number {
    return (this.readLast ? 2 : 0) + (this.device.state.word === 'online' ? 0 : 1)
  }

  /** Where its metadata end, bytes. */
  get end(): number {
    return this.superblocks.end
  }

  /** Where metadata would end, as large as the leg is now. */
  get endNow(): number {
    return metadataEnd(this.device.facts?.size ?? 0)
  }
}
