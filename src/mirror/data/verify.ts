import { StorageError, systemError } from '../../base/errors.ts'
import { announce } from '../announce.ts'
import { failed, readFailed } from '../departure.ts'
import { pageBytes } from '../layout.ts'
import type { Leg } from '../leg.ts'
import type { Membership } from '../membership.ts'
import type { KnownDifference } from '../record.ts'
import type { Volume } from '../volume.ts'
import { differentBytes, differentRanges } from './compare.ts'
import {
  describeDifferences,
  noteCompared,
  noteEnd,
  notePosition,
  verifiedOf,
  type ComparedRange,
} from './differences.ts'
import { areReadable, vouch } from './flushing.ts'
import { LockedRange } from './locked.ts'
import { Pace } from './pace.ts'

export interface VerifyOptions {
  /** The leg whose bytes are right wherever legs differ. */
  readonly repairFrom?: string
  /** Whether a majority of three or more repairs the others; true if absent. */
  readonly repair?: boolean
  /** Bytes per second at most. */
  readonly bytesPerSecond?: number
  /** Of a scheduled one: the byte to begin at, where the last one came to that was interrupted. */
  readonly from?: number
}

export interface Difference {
  /** Bytes. */
  readonly offset: number
  readonly length: number
  /** Those in the minority; all, when there is no majority. */
  readonly legs: readonly string[]
  readonly repaired: boolean
}

export interface VerifyResult {
  readonly bytesChecked: number
  readonly bytesDifferent: number
  readonly bytesRepaired: number
  /** Whether it came to the end of the volume. */
  readonly complete: boolean
  /** The first thousand. */
  readonly differences: readonly Difference[]
}

const differencesMax = 1000
/** Milliseconds between two savings of how far a scheduled verify is, each a write on every leg. */
const saveMs = 60_000
/** The same where something was found: a crash must not make it forgotten. */
const saveFoundMs = 5000

/** What one leg reads in the range being compared; null when it cannot. */
interface Reading {
  readonly leg: Leg
  bytes: Buffer | null
}

/** What became of a range that a leg was to get. */
type Rewritten = 'written' | 'later' | 'differs'

/** Compares all legs in sync while the volume runs, each piece with its range locked. */
export class Verify {
  private readonly volume: Volume
  private readonly membership: Membership
  private readonly options: VerifyOptions
  private readonly pace: Pace
  private readonly startedAt: number
  private readonly differences: Difference[] = []
  /** Why it ends before the end. */
  private stopped: 'asked' | 'legs' | null = null
  private offset: number
  /** Where the pieces begin that are under way. */
  private readonly underWay = new Set<number>()
  private savedAt: number
  private foundUnsaved = false
  private bytesChecked = 0
  private bytesDifferent = 0
  private bytesRepaired = 0

  constructor(volume: Volume, options: VerifyOptions) {
    const { repairFrom } = options
    const refuse = (what: string): StorageError => new StorageError('CONFIG', what, volume.path)
    if (repairFrom !== undefined && !volume.inSync.some((leg) => leg.name === repairFrom))
      throw refuse(`${repairFrom} is no leg in sync`)
    if (volume.readable.length < 2) throw refuse('fewer than two legs are in sync')
    const { bytesPerSecond = 1 } = options
    if (!(bytesPerSecond > 0)) throw refuse(`a speed of ${bytesPerSecond} bytes per second`)
    this.volume = volume
    this.membership = volume.membership
    this.options = options
    const limit = options.bytesPerSecond ?? volume.settings.resyncBytesPerSecond
    this.pace = new Pace(volume, limit)
    this.startedAt = volume.clock.now()
    this.savedAt = this.startedAt
    this.offset = this.begin
  }

  async run(): Promise<VerifyResult> {
    const { volume } = this
    const workers = Array.from({ length: volume.settings.resyncWindow }, () => this.work())
    await Promise.all(workers).finally(() => this.pace.end())
    const complete = this.alive() && this.offset >= volume.record!.dataSize
    const { bytesChecked, bytesDifferent, bytesRepaired, differences } = this
    if (!this.membership.over()) {
      this.conclude(complete)
      // What is told must be known after a crash.
      await volume.membership.settled()
    }
    return { bytesChecked, bytesDifferent, bytesRepaired, complete, differences }
  }

  stop(why: 'asked' | 'legs'): void {
    this.stopped ??= why
    this.pace.wake()
  }

  describe(): Record<string, unknown> {
    const total = this.volume.record?.dataSize ?? 0
    const seconds = Math.max(0.001, (this.volume.clock.now() - this.startedAt) / 1000)
    const bytesPerSecond = Math.round(this.bytesChecked / seconds)
    const bytesDone = Math.min(total, this.begin + this.bytesChecked)
    const bytesLeft = total - bytesDone
    return {
      bytesDone,
      bytesLeft,
      bytesDifferent: this.bytesDifferent,
      bytesRepaired: this.bytesRepaired,
      percent: total === 0 ? 100 : Math.floor((1000 * bytesDone) / total) / 10,
      bytesPerSecond,
      secondsLeft: bytesPerSecond === 0 ? null : Math.ceil(bytesLeft / bytesPerSecond),
    }
  }

  private alive(): boolean {
    return this.stopped === null && !this.membership.over()
  }

  /** The run goes on: what it found is history, and the next one is counted from here. */
  private conclude(complete: boolean): void {
    const { volume, bytesDifferent, bytesRepaired } = this
    const record = volume.record!
    const now = Math.floor(volume.clock.wall())
    // A scheduled one goes on where it was once legs are back, unless an operator ended it.
    if (complete) noteEnd(record, now, 'complete')
    else if (this.isScheduled && this.stopped === 'asked') noteEnd(record, now, 'given up')
    else if (this.isScheduled) notePosition(record, this.position)
    const outcome = complete ? 'complete' : 'stopped'
    const still = describeDifferences(record)
    const found = `${bytesDifferent} bytes differed, ${bytesRepaired} repaired`
    volume.remember('verify', '', still === '' ? found : `${found}; now ${still}`, {
      kind: 'verify',
      cause: this.isScheduled ? 'scheduled' : 'asked for',
      source: this.options.repairFrom ?? 'majority',
      bytes: this.bytesChecked,
      milliseconds: Math.round(volume.clock.now() - this.startedAt),
      outcome,
    })
    volume.membership.request(false)
    announce(volume)
  }

  /** The record may have been written by others. */
  private get begin(): number {
    const { from = 0 } = this.options
    return from < this.volume.record!.dataSize && from % pageBytes === 0 ? from : 0
  }

  private get isScheduled(): boolean {
    return this.options.from !== undefined
  }

  /** Bytes up to which everything was compared. */
  private get position(): number {
    return Math.min(this.offset, ...this.underWay)
  }

  /** Has it remembered, now and then, what was found and how far it is. */
  private save(): void {
    const { volume } = this
    if (this.isScheduled) notePosition(volume.record!, this.position)
    const now = volume.clock.now()
    const due = this.foundUnsaved ? saveFoundMs : this.isScheduled ? saveMs : Infinity
    if (now - this.savedAt < due) return
    this.savedAt = now
    this.foundUnsaved = false
    volume.membership.request(false)
  }

  private async work(): Promise<void> {
    const { volume } = this
    const { dataSize } = volume.record!
    while (this.alive() && this.offset < dataSize) {
      const { offset } = this
      const length = Math.min(volume.settings.resyncChunkBytes, dataSize - offset)
      this.offset += length
      this.underWay.add(offset)
      await this.pace.before(length)
      if (!this.alive()) break
      const range = new LockedRange(offset, offset + length)
      await range.acquire(volume)
      if (this.alive()) await this.compare(offset, length)
      range.release(volume)
      if (!this.alive()) break
      this.bytesChecked += length
      this.underWay.delete(offset)
      this.save()
    }
  }

  private async compare(offset: number, length: number): Promise<void> {
    let readings = await this.readAll(offset, length)
    // Once more: what differs for a moment only is no difference.
    if (!equal(readings)) readings = await this.readForCertain(offset, length)
    if (!this.alive()) return
    const legs = readings.map(({ leg }) => leg)
    if (equal(readings)) {
      this.learn(rangeOf(offset, length, legs), [])
      return
    }
    const right = this.decide(readings)
    const wrong = readings.filter(({ bytes }) => right === null || bytes?.equals(right) !== true)
    const different = largestDifference(readings)
    this.bytesDifferent += different
    const repairs = right !== null && this.options.repair !== false
    let repaired = repairs
    // What a leg could not take now it gets when it is back; the last one stays as it is.
    let mended = repairs
    if (repairs) {
      await this.noteElsewhere(offset, length)
      // One that is being filled, and is about to be in sync, gets it as well.
      const well = readings.filter((one) => !wrong.includes(one)).map(({ leg }) => leg)
      for (const leg of new Set([...legs, ...this.volume.writers]))
        if (!well.includes(leg)) {
          const outcome = await this.rewrite(leg, offset, right)
          repaired &&= outcome === 'written'
          mended &&= outcome !== 'differs'
        }
      if (repaired) this.bytesRepaired += different
    }
    if (!this.alive()) return
    const found = differencesIn(readings, offset)
    if (mended) this.learn({ from: offset, to: offset + length, legs: null }, [])
    else if (readings.every(({ bytes }) => bytes !== null))
      this.learn(rangeOf(offset, length, legs), found)
    const names = wrong.map(({ leg }) => leg.name)
    const ranges = found.length === 0 ? [{ from: offset, to: offset + length }] : found
    for (const { from, to } of ranges)
      if (this.differences.length < differencesMax)
        this.differences.push({ offset: from, length: to - from, legs: names, repaired })
  }

  /** The range was compared, and this is what differs in it now. */
  private learn(range: ComparedRange, found: readonly KnownDifference[]): void {
    const record = this.volume.record!
    const { differences } = verifiedOf(record)
    if (found.length === 0 && differences.length === 0) return
    noteCompared(record, range, found)
    this.foundUnsaved = true
    if (differences.length === 0) announce(this.volume)
  }

  /** Legs that are not compared may have copied what is wrong: they lack what is right. */
  private async noteElsewhere(offset: number, length: number): Promise<void> {
    for (const leg of this.volume.legs) this.note(leg, offset, length)
    await this.volume.membership.written('lacking')
  }

  private note({ dirty }: Leg, offset: number, length: number): void {
    dirty?.miss(offset, offset + length)
  }

  /** What the legs in sync have. One that left meanwhile may have lost it, and says nothing. */
  private async readAll(offset: number, length: number): Promise<readonly Reading[]> {
    const { volume } = this
    for (;;) {
      const legs = [...volume.readable]
      // What one leg says alone is not compared with anything.
      if (legs.length < 2) this.stop('legs')
      if (!this.alive()) return []
      const readings = await Promise.all(legs.map((leg) => this.read(leg, offset, length)))
      if (areReadable(volume, legs)) return readings
    }
  }

  /** Where they differ, each has flushed since: what a disk dropped unseen is not what it had. */
  private async readForCertain(offset: number, length: number): Promise<readonly Reading[]> {
    for (;;) {
      const readings = await this.readAll(offset, length)
      if (equal(readings)) return readings
      const legs = readings.map(({ leg }) => leg)
      if ((await vouch(this.volume, legs)) || !this.alive()) return readings
    }
  }

  private async read(leg: Leg, offset: number, length: number): Promise<Reading> {
    try {
      return { leg, bytes: await leg.read(offset, length) }
    } catch (error) {
      if (this.alive()) readFailed(this.volume, leg, systemError(error, 'verify'))
      return { leg, bytes: null }
    }
  }

  /** What the range should read as: as the operator says, or more than half of three or more. */
  private decide(readings: readonly Reading[]): Buffer | null {
    const { repairFrom } = this.options
    if (repairFrom !== undefined)
      return readings.find(({ leg }) => leg.name === repairFrom)?.bytes ?? null
    const readable = readings.filter(({ bytes }) => bytes !== null)
    for (const { bytes } of readable) {
      const same = readable.filter((other) => other.bytes!.equals(bytes!)).length
      const majority = readings.length >= 3 ? same * 2 > readings.length : same === readable.length
      if (majority) return bytes
    }
    return null
  }

  /** One that leaves, or has left, gets the bytes when it is back; one that must stay differs. */
  private async rewrite(leg: Leg, offset: number, bytes: Buffer): Promise<Rewritten> {
    const { volume } = this
    if (!this.alive()) return 'differs'
    try {
      if (volume.writers.includes(leg)) {
        await leg.write(offset, bytes)
        return 'written'
      }
    } catch (error) {
      const stays = this.alive() && !failed(volume, leg, 'write', systemError(error, 'verify'))
      if (stays) return 'differs'
    }
    if (!this.alive()) return 'differs'
    this.note(leg, offset, bytes.length)
    await volume.membership.written('lacking')
    return 'later'
  }
}

function rangeOf(offset: number, length: number, legs: readonly Leg[]): ComparedRange {
  return { from: offset, to: offset + length, legs: legs.map(({ name }) => name) }
}

function equal(readings: readonly Reading[]): boolean {
  const first = readings[0]?.bytes ?? null
  if (readings.length < 2) return true
  return first !== null && readings.every(({ bytes }) => bytes?.equals(first) === true)
}

/** Where the legs differ that could be read. */
function differencesIn(readings: readonly Reading[], offset: number): KnownDifference[] {
  const read = readings.filter(({ bytes }) => bytes !== null)
  const groups: { readonly bytes: Buffer; readonly names: string[] }[] = []
  for (const { leg, bytes } of read) {
    const same = groups.find((group) => group.bytes.equals(bytes!))
    if (same === undefined) groups.push({ bytes: bytes!, names: [leg.name] })
    else same.names.push(leg.name)
  }
  const names = groups.map((group) => group.names)
  return differentRanges(groups.map(({ bytes }) => bytes)).map(({ from, to }) => ({
    from: offset + from,
    to: offset + to,
    bytes: to - from,
    groups: names,
  }))
}

function largestDifference(readings: readonly Reading[]): number {
  const first = readings.find(({ bytes }) => bytes !== null)?.bytes
  if (first === undefined || first === null) return 0
  let most = 0
  for (const { bytes } of readings)
    most = Math.max(most, bytes === null ? first.length : differentBytes(first, bytes))
  return most
}
