import type { Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { Mutex } from '../base/mutex.ts'
import { MiB } from '../base/size.ts'
import type { Device } from '../device/device.ts'
import { restartsOf } from '../device/facts.ts'
import { Flag, Operation, Request, type Completer } from '../device/request.ts'
import type { BlockSet } from './blocks.ts'
import type { DirtyMap } from './dirty-map.ts'
import type { Filled } from './former.ts'
import {
  metadataBytes,
  metadataEnd,
  pageBytes,
  superblockBytes,
  superblockOffset,
  type Geometry,
} from './layout.ts'
import type { Member, VolumeRecord } from './record.ts'
import type { Coming, Finishing, RunLeg, Stage } from './rules/run.ts'
import { Waiter, type LegCaller } from './leg-caller.ts'
import {
  choose,
  decodeSlot,
  encodeSuperblock,
  isNewer,
  serialMax,
  slotLength,
  withFormer,
  type Found,
} from './superblock.ts'

/**
 * Bytes of zeroes that are asked for at once where a leg may have to write them: few enough that a
 * leg with a MB per second answers within the time that it has for one request.
 */
export const zeroBytesMax = 8 * MiB

/** How long a leg is left in peace after it failed. */
interface Retry {
  /** Null when it may come back. */
  timer: Timer | null
  /** Milliseconds, the last time. */
  delay: number
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
  /** What it was claimed with, where that had to be more than `Volume.claimed`. */
  claimed = 0
  /** Where its metadata end, bytes. */
  end = 0
  /** How far it has data, of a blank one that was looked at. */
  filled: Filled | null = null
  /** Whether growing is not tried again for now, at which `endNow` it failed, and for how long. */
  stuck = false
  stuckAt = 0
  stuckMs = 0
  serial = 0
  /** A serial that it had for certain when it was looked at last. */
  private mark = 0
  /** Which of the two slots has the newest superblock; and which one `examine` found it in. */
  private slot = 0
  private foundSlot = 0
  private readonly superblocks = new Mutex()
  /** Whether the newest slot may be in the device's cache alone: it was read, not written. */
  private serialIsUnflushed = false
  /** Which device that was looked at. */
  private seen = ''
  /** What a refusal may depend on, as it was last. */
  private noticed = ''
  /** The id in the superblock that was read last, '' if there was none. */
  self = ''
  /** Reads under way, and where the last one ended: for balancing. */
  reads = 0
  lastOffset = 0
  readonly retry: Retry = { timer: null, delay: 0 }
  /** Of reads, since it was last in sync. */
  readErrors = 0
  /** Whether somebody who wants the leg waits until nothing is under way. */
  wanted = false
  /** Told when the first request goes under way, and, if it is wanted, when the last one ended. */
  onBusy: () => void = () => undefined
  onQuiet: () => void = () => undefined
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

  constructor(name: string, device: Device, readLast: boolean) {
    this.name = name
    this.device = device
    this.readLast = readLast
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
    if (child.tag === 0) this.onBusy()
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

  /** What the leg's superblocks say, when its metadata end at `end`. */
  async examine(end: number): Promise<Found> {
    this.seen = this.shown
    if (end < 2 * superblockBytes) return { kind: 'blank' }
    const first = await this.readSlot(superblockOffset(end, 0))
    const second = await this.readSlot(superblockOffset(end, 1))
    const found = choose(first, second)
    const newest = (slot: Found): boolean =>
      slot.kind === 'superblock' &&
      found.kind === 'superblock' &&
      slot.superblock === found.superblock
    this.foundSlot = newest(second) ? 1 : 0
    if (found.kind !== 'superblock') return found
    const { record } = found.superblock
    if (record.dataSize + metadataBytes(record) <= end) return found
    const reason = `its superblock speaks of ${record.dataSize} bytes, for which it has no room`
    return { kind: 'damaged', reason }
  }

  /**
   * What the superblocks at its present end say, or at the end that it had as a member of the
   * volume if those are newer: what it grew by may hold some of an earlier day. Sets `end`.
   */
  async examineEnds(volume: string, former: number): Promise<Found> {
    this.end = this.endNow
    const found = await this.examine(this.end)
    if (former <= 0 || former >= this.end) return found
    const slot = this.foundSlot
    const before = await this.examine(former)
    if (isNewer(before, found, volume)) {
      this.end = former
      return before
    }
    this.foundSlot = slot
    return withFormer(found, before)
  }

  /** Remembers what `examine` found; `mark` is a serial that it had for certain as this member. */
  note(found: Found, mark: number): void {
    const superblock = found.kind === 'superblock' ? found.superblock : null
    this.serial = superblock?.serial ?? 0
    // The next must be above what it had before it was put back.
    if (superblock !== null) this.serial = Math.max(this.serial, mark)
    this.mark = mark
    this.slot = this.foundSlot
    this.serialIsUnflushed = true
    this.self = superblock?.self ?? ''
  }

  private async readSlot(offset: number): Promise<Found> {
    const start = await this.read(offset, pageBytes)
    const length = slotLength(start)
    if (length <= start.length) return decodeSlot(start)
    const rounded = Math.min(superblockBytes, Math.ceil(length / pageBytes) * pageBytes)
    return decodeSlot(await this.read(offset, rounded))
  }

  /**
   * Writes the record into the slot whose turn it is: never into the only one that is stable, and
   * one after the other. `record` is asked for when it is its turn, and may throw if that is late.
   */
  writeSuperblock(record: () => VolumeRecord): Promise<void> {
    return this.superblocks.run(() => this.writeNext(record()))
  }

  /** Prepares their place and writes both, while no other is written. */
  writeBothSuperblocks(prepare: () => Promise<void>, record: () => VolumeRecord): Promise<void> {
    return this.superblocks.run(async () => {
      await prepare()
      await this.writeNext(record())
      await this.writeNext(record())
    })
  }

  private async writeNext(record: VolumeRecord): Promise<void> {
    if (this.serialIsUnflushed) await this.flush()
    this.serialIsUnflushed = false
    if (this.serial < serialMax) {
      await this.writeSlot(record)
      return
    }
    // Only somebody else writes such a serial, and nothing is above it: numbers go on from what the
    // leg had. Until it is written over it counts, so a crash finds what was there before.
    this.serial = this.mark
    await this.writeSlot(record)
    await this.writeSlot(record)
  }

  private async writeSlot(record: VolumeRecord): Promise<void> {
    const serial = this.serial + 1
    const slot = 1 - this.slot
    this.self = this.member!.id
    const bytes = encodeSuperblock({ serial, self: this.member!.id, record })
    if (bytes === null)
      throw new StorageError('TOO_LARGE', 'the record does not fit a superblock', this.device.path)
    await this.write(superblockOffset(this.end, slot), bytes)
    // Only now: a slot that could not be written may be torn, and is tried again, not the other.
    this.serial = serial
    this.slot = slot
    this.member!.mark = serial
    this.member!.markedIn = record.generation
  }

  /** Makes the leg an image like any other: nothing is left of what the volume wrote for itself. */
  async erase(geometry: Geometry): Promise<void> {
    const bytes = metadataBytes(geometry)
    await this.zero(this.end - bytes, bytes)
    this.serial = 0
    this.self = ''
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

  /** Whether the device says anything else of itself now than it did when this was asked last. */
  noticeFacts(): boolean {
    const { noticed } = this
    const { facts } = this.device
    this.noticed =
      facts === null
        ? ''
        : [facts.size, facts.blockSize, facts.readOnly, facts.identity, facts.bootId].join()
    return this.noticed !== noticed
  }

  /** Whether the device that `examine` looked at is there still. */
  get isAsSeen(): boolean {
    return this.seen === this.shown
  }

  /** Which device it is, and since which start of its target. */
  private get shown(): string {
    return `${this.device.facts?.identity ?? ''} ${restartsOf(this.device)}`
  }

  /** Who is read from rather than whom: the lowest. */
  get tier(): number {
    return (this.readLast ? 2 : 0) + (this.device.state.word === 'online' ? 0 : 1)
  }

  /** Where metadata would end, as large as the leg is now. */
  get endNow(): number {
    return metadataEnd(this.device.facts?.size ?? 0)
  }
}
