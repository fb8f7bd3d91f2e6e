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
 * leg that writes a MB per second answers within the time limit of a request.
 */
export const zeroBytesMax = 8 * MiB

interface Configured {
  readonly name: string
  readonly device: Device
  readonly readLast?: boolean
}

/** What a leg tells the volume. */
export interface LegHooks {
  /** The first request is about to be submitted. */
  onBusy(): void
  /** The leg may be able to come back. */
  onReady(): void
}

/** One leg as the running volume knows it, and every request that it has under way. */
export class Leg implements Completer, RunLeg {
  readonly name: string
  readonly device: Device
  readonly readLast: boolean
  /** Null until the volume's record is known and names this leg. */
  member: Member | null = null
  /** Why the leg may not take part, '' if it may. Forgotten when the reason may have passed. */
  refusal = ''
  /** The leg's part in the run. */
  stage: Stage = 'absent'
  announcedBy = 0
  coming: Coming | null = null
  finishing: Finishing | null = null
  /** What the leg lacks while it is not in sync; otherwise null. */
  dirty: DirtyMap | null = null
  /** What an absent leg acknowledged and had not flushed: lost if it restarts. */
  unflushed: BlockSet | null = null
  /** Writes settled before this moment, see `IntentLog.moment`, are on the leg's stable storage. */
  flushedMoment = 0
  /** The `flushedMoment` when its superblock was last written, see `marks.ts`. */
  markedMoment = 0
  /** Whether the leg lacks only what was in the intent log when the head died. */
  crashed = false
  bootId = ''
  identity = ''
  /** How often the leg's target had restarted when `adopt` was last called. */
  private restarts: number | null = null
  /** The pause before the leg may grow again, unless `endNow` changes. */
  private readonly growing = new BackOff()
  private stuckAt = 0
  readonly superblocks = new Superblocks(this)
  /** The facts that a refusal may depend on, as last seen. */
  private noticed = ''
  /** Reads under way, and where the last one ended: for balancing. */
  reads = 0
  lastOffset = 0
  /** The pause before the leg is tried again. */
  readonly backOff = new BackOff()
  /** Reads that the leg failed since it was last in sync. */
  readErrors = 0
  /** Whether `onQuiet` is to be called when nothing is under way. */
  private wanted = false
  private readonly hooks: LegHooks
  /** Called, if `wanted`, when the last request has ended. */
  private onQuiet: () => void
  /** Called when nothing that changes the leg is under way, or when it is abandoned. */
  private whenUnchanging: (() => void)[] = []
  /** How often the leg was abandoned: a procedure in steps ends once that has changed. */
  timesAbandoned = 0
  /** Requests under way, in no order; a request's `tag` is its place. */
  private readonly underWay: Request[] = []
  /** Counted up by the volume's watchdog; a request's `tagHigh` is when it was submitted. */
  tick = 0
  /** The tick of the leg's last answer. */
  private answeredTick = 0

  constructor({ name, device, readLast = false }: Configured, hooks: LegHooks) {
    this.name = name
    this.device = device
    this.readLast = readLast
    this.hooks = hooks
    this.onQuiet = () => {
      hooks.onReady()
    }
  }

  /** Makes the leg this member of the volume. */
  bind(member: Member): void {
    this.member = member
  }

  /** Forgets what the leg lacks, because no run has it. */
  forget(): void {
    this.stage = 'absent'
    this.dirty = null
    this.unflushed = null
    this.crashed = false
    this.flushedMoment = 0
    this.markedMoment = 0
  }

  /** Gives the leg an empty map of what it lacks, and returns it. */
  lacksNothing(volume: Volume): DirtyMap {
    this.unflushed = null
    return (this.dirty = new DirtyMap(blockGeometryOf(volume)))
  }

  /** Takes back `lacksNothing`: `before` counts again, with what was missed since. */
  lacksAgain(before: DirtyMap, unflushed: Leg['unflushed']): void {
    before.merge(this.dirty!.bits)
    // The other map may have been written over it on disk.
    before.inherit(before.durable)
    if (unflushed !== null) before.missSet(unflushed)
    this.dirty = before
  }

  /** Notes that the leg may lack anything. */
  lacksAll(volume: Volume): void {
    this.dirty ??= this.lacksNothing(volume)
    this.dirty.setAll()
  }

  /** Notes that the leg lacks what was in the intent log when the head crashed. */
  lacksAfterCrash(volume: Volume, intents: Bitmap): void {
    this.lacksNothing(volume).merge(intents)
    this.crashed = true
  }

  /** Whether the leg lacks only what a crash left. Asked once: false the next time. */
  takeCrashed(): boolean {
    const { crashed } = this
    this.crashed = false
    return crashed
  }

  /** Notes that what the leg had not flushed is lost. */
  loseCache(): void {
    const { dirty, unflushed } = this
    if (dirty === null || unflushed === null) return
    dirty.forgetCopies()
    dirty.missSet(unflushed)
    this.unflushed = null
  }

  /** Begins a run with the stage that the record says. */
  startAs({ state }: Member): void {
    this.stage = state === 'in-sync' || state === 'detached' ? state : 'absent'
    if (state !== 'in-sync') return
    this.noteEnd()
    // Older versions leave it there when a leg was copied whole.
    delete this.member!.whole
    this.readErrors = 0
  }

  /**
   * Notes in the member where the leg's metadata were found or are about to be written. Found
   * further than they were, only one of the superblocks may be there, and the other where it was.
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

  /** Keeps the leg from taking part, for this reason. */
  refuse(reason: string): void {
    this.refusal = reason
  }

  /** Lets the leg take part at once, whatever happened. */
  welcome(): void {
    this.refusal = ''
    this.backOff.end()
  }

  /** Begins a pause before the leg may grow. Returns false if it was stuck at this size before. */
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

  /** Has `onReady` called as soon as nothing is under way. Returns false if nothing is now. */
  want(): boolean {
    this.wanted = this.pending > 0
    return this.wanted
  }

  /** Counts a read up to `to`, about to be submitted; `endRead` follows at its end. */
  beginRead(to: number): void {
    this.reads++
    this.lastOffset = to
  }

  endRead(): void {
    this.reads--
  }

  /** Counts a tick of the volume's watchdog. */
  passTime(): void {
    this.tick++
  }

  get pending(): number {
    return this.underWay.length
  }

  /** Whether anything under way may change the leg. */
  get changing(): boolean {
    const asks = ({ operation }: Request): boolean =>
      operation === Operation.read || operation === Operation.status
    return !this.underWay.every(asks)
  }

  /** Notes a flush that began at this moment and succeeded, of a leg that takes part. */
  hasFlushed(moment: number): void {
    this.flushedMoment = Math.max(this.flushedMoment, moment)
    this.unflushed = null
  }

  /** Notes a superblock written, on a leg that takes part, after it had flushed up to `moment`. */
  hasMarked(moment: number): void {
    this.markedMoment = Math.max(this.markedMoment, moment)
  }

  /** Writes settled before this are on the leg, or its superblock tells of a put-back. */
  get safeMoment(): number {
    return this.restarts === null
      ? this.flushedMoment
      : Math.min(this.flushedMoment, this.markedMoment)
  }

  /** Whether the leg's target restarted since `adopt`: what it has is to be examined again. */
  get hasRestarted(): boolean {
    return restartsOf(this.device) !== this.restarts
  }

  /** Resolves when the leg is not `changing` or was abandoned; the caller checks which. */
  unchanging(): Promise<void> {
    if (!this.changing) return Promise.resolve()
    return new Promise((resolve) => this.whenUnchanging.push(resolve))
  }

  /** Ticks that the oldest request has been under way; 0 when there is none. */
  get oldestTicks(): number {
    let oldest = this.tick
    for (const request of this.underWay) oldest = Math.min(oldest, request.tagHigh)
    return this.tick - oldest
  }

  /** Whether the leg has answered nothing for more than `ticks`, though something quick waits. */
  isSilent(ticks: number): boolean {
    if (this.tick - this.answeredTick <= ticks) return false
    return this.underWay.some(
      ({ operation, tagHigh }) => operation <= Operation.write && this.tick - tagHigh > ticks,
    )
  }

  /** Submits a request that has this leg as its owner. `caller` hears once of its end. */
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

  /** Tells callers that their requests are lost. The device keeps these until they are done. */
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

  /** Resolves when nothing is under way on a leg that left for good: `onReady` is silent then. */
  drained(): Promise<void> {
    if (this.pending === 0) return Promise.resolve()
    this.wanted = true
    return new Promise((resolve) => (this.onQuiet = resolve))
  }

  /** The flags of a write without those that the leg does not know. */
  flagsFor(flags: number): number {
    return this.device.facts!.fua === 'none' ? flags & ~Flag.fua : flags
  }

  /** Reads into a new buffer. Rejects with the leg's error, or UNAVAILABLE when it leaves. */
  async read(offset: number, length: number): Promise<Buffer> {
    const child = await this.carryOut(Operation.read, offset, length, null)
    const bytes = Buffer.allocUnsafe(length)
    child.copyTo(bytes)
    child.release()
    return bytes
  }

  /** Writes `bytes` to stable storage; they must not change meanwhile. Rejects as `read` does. */
  async write(offset: number, bytes: Buffer): Promise<void> {
    const child = await this.carryOut(Operation.write, offset, bytes.length, bytes)
    child.release()
  }

  /** Zeroes in pieces, which a leg may have to write one by one. Rejects as `read` does. */
  async zero(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += zeroBytesMax) {
      const piece = Math.min(zeroBytesMax, length - at)
      const child = await this.carryOut(Operation.writeZeroes, offset + at, piece, null)
      child.release()
    }
  }

  /** Flushes the leg, if it has a cache. Rejects as `read` does. */
  async flush(): Promise<void> {
    if (this.device.facts!.flush === 'none') return
    const child = await this.carryOut(Operation.flush, 0, 0, null)
    child.release()
  }

  /**
   * Submits a request and resolves to it when it succeeded; the caller releases it. Rejects with
   * its error, or UNAVAILABLE when the leg leaves.
   */
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

  /** Submits a write for the mirror itself, and releases it. Rejects as `carryOut` does. */
  async carryOutWrite(write: Request): Promise<void> {
    const child = await new Promise<Request>((resolve, reject) => {
      this.submit(write, new Waiter(resolve, reject))
    })
    child.release()
  }

  /** Remembers the identity of the leg's device, its boot id and the restarts of its target. */
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
   * Whether the member was on another device: a file restored from a copy has the superblock of the
   * day of the copy, and lacks what was written since.
   */
  isAnotherThan({ identity }: Member): boolean {
    return identity !== undefined && this.device.facts?.identity !== identity
  }

  /** Forgets the refusal when the device is away, or its facts have changed. */
  noticeFacts(): void {
    const { noticed } = this
    const { facts, usable } = this.device
    this.noticed =
      facts === null
        ? ''
        : [facts.size, facts.blockSize, facts.readOnly, facts.identity, facts.bootId].join()
    if (this.noticed !== noticed || !usable) this.refusal = ''
  }

  /** Read preference: legs with the lowest tier are read. */
  get tier(): number {
    return (this.readLast ? 2 : 0) + (this.device.state.word === 'online' ? 0 : 1)
  }

  /** The byte where the leg's metadata end. */
  get end(): number {
    return this.superblocks.end
  }

  /** The byte where metadata would end, as large as the leg is now. */
  get endNow(): number {
    return metadataEnd(this.device.facts?.size ?? 0)
  }
}
