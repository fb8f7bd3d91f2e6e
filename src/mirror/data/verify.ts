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
  /** Set for a scheduled verify: the byte to begin at, where an interrupted one came to. */
  readonly from?: number
}

export interface Difference {
  /** Bytes, like `length`. */
  readonly offset: number
  readonly length: number
  /** Names of the legs in the minority; of all legs when there is no majority. */
  readonly legs: readonly string[]
  readonly repaired: boolean
}

export interface VerifyResult {
  readonly bytesChecked: number
  readonly bytesDifferent: number
  readonly bytesRepaired: number
  /** Whether the verify reached the end of the volume. */
  readonly complete: boolean
  /** The first thousand of them. */
  readonly differences: readonly Difference[]
}

const differencesMax = 1000
/** Milliseconds between two saves of how far a scheduled verify is, each a write on every leg. */
const saveMs = 60_000
/** The same once a difference was found, which a crash must not make us forget. */
const saveFoundMs = 5000

/** What one leg reads in the range being compared; null when it cannot. */
interface Reading {
  readonly leg: Leg
  bytes: Buffer | null
}

/** What became of a repair: done; done when the leg is back; or the leg still differs. */
type Rewritten = 'written' | 'later' | 'differs'

/** Compares all legs in sync while the volume runs, each piece with its range locked. */
export class Verify {
  private readonly volume: Volume
  private readonly membership: Membership
  private readonly options: VerifyOptions
  private readonly pace: Pace
  private readonly startedAt: number
  private readonly differences: Difference[] = []
  /** Why the verify ends early; null while it goes on. */
  private stopped: 'asked' | 'legs' | null = null
  private offset: number
  /** Offsets of the pieces under way. */
  private readonly underWay = new Set<number>()
  private savedAt: number
  private foundUnsaved = false
  private bytesChecked = 0
  private bytesDifferent = 0
  private bytesRepaired = 0

  /**
   * Throws CONFIG if `repairFrom` is not a leg in sync, fewer than two legs are, or the speed is 0
   * or less.
   */
  constructor(volume: Volume, options: VerifyOptions) {
    const { repairFrom } = options
    const refuse = (what: string): StorageError => new StorageError('CONFIG', what, volume.path)
    if (repairFrom !== undefined && !volume.inSync.some((leg) => leg.name === repairFrom))
      throw refuse(`${repairFrom} is not a leg in sync`)
    if (volume.readable.length < 2) throw refuse('fewer than two legs are in sync')
    const { bytesPerSecond = 1 } = options
    if (!(bytesPerSecond > 0)) throw refuse(`a speed of ${bytesPerSecond}, which must be above 0`)
    this.volume = volume
    this.membership = volume.membership
    this.options = options
    const limit = options.bytesPerSecond ?? volume.settings.resyncBytesPerSecond
    this.pace = new Pace(volume, limit)
    this.startedAt = volume.clock.now()
    this.savedAt = this.startedAt
    this.offset = this.begin
  }

  /**
   * Compares to the end of the volume, or until stopped. Resolves when what was found is durable.
   */
  async run(): Promise<VerifyResult> {
    const { volume } = this
    const workers = Array.from({ length: volume.settings.resyncWindow }, () => this.work())
    await Promise.all(workers).finally(() => this.pace.end())
    const complete = this.alive() && this.offset >= volume.record!.dataSize
    const { bytesChecked, bytesDifferent, bytesRepaired, differences } = this
    if (!this.membership.over()) {
      this.conclude(complete ? 'complete' : 'stopped')
      // What the operator is told must survive a crash.
      await volume.membership.settled()
    }
    return { bytesChecked, bytesDifferent, bytesRepaired, complete, differences }
  }

  /** Ends the verify early: an operator asks for it, or too few legs are left to compare. */
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

  /** Records the outcome in the history; the run of the volume goes on. */
  private conclude(outcome: 'complete' | 'stopped'): void {
    const { volume, bytesDifferent, bytesRepaired } = this
    const record = volume.record!
    const now = Math.floor(volume.clock.wall())
    // A scheduled verify goes on from there once legs are back, unless an operator ended it.
    if (outcome === 'complete') noteEnd(record, now, 'complete')
    else if (this.isScheduled && this.stopped === 'asked') noteEnd(record, now, 'given up')
    else if (this.isScheduled) notePosition(record, this.position)
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
    volume.membership.request('record')
    announce(volume)
  }

  /** The first byte to compare. The record that it comes from may have been written by others. */
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

  /** Saves, now and then, what was found and how far the verify is. */
  private save(): void {
    const { volume } = this
    if (this.isScheduled) notePosition(volume.record!, this.position)
    const now = volume.clock.now()
    const due = this.foundUnsaved ? saveFoundMs : this.isScheduled ? saveMs : Infinity
    if (now - this.savedAt < due) return
    this.savedAt = now
    this.foundUnsaved = false
    volume.membership.request('record')
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
    // Read once more: what differs for a moment only is no difference.
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
    // A leg that cannot take it now gets it when it is back; the last leg stays as it is.
    let mended = repairs
    if (repairs) {
      await this.noteElsewhere(offset, length)
      // A leg that is being filled, and may soon be in sync, gets it as well.
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

  /** Notes what differs in a range that was compared. */
  private learn(range: ComparedRange, found: readonly KnownDifference[]): void {
    const record = this.volume.record!
    const { differences } = verifiedOf(record)
    if (found.length === 0 && differences.length === 0) return
    noteCompared(record, range, found)
    this.foundUnsaved = true
    if (differences.length === 0) announce(this.volume)
  }

  /** Notes that the other legs lack the range: they may have copied the wrong bytes. */
  private async noteElsewhere(offset: number, length: number): Promise<void> {
    for (const leg of this.volume.legs) this.note(leg, offset, length)
    await this.volume.membership.written('lacking')
  }

  private note({ dirty }: Leg, offset: number, length: number): void {
    dirty?.miss(offset, offset + length)
  }

  /**
   * Reads the range from all legs in sync, once more if one left meanwhile, because it may have
   * lost what it had. Resolves to [] when the verify is stopped.
   */
  private async readAll(offset: number, length: number): Promise<readonly Reading[]> {
    const { volume } = this
    for (;;) {
      const legs = [...volume.readable]
      // A single leg has nothing to be compared with.
      if (legs.length < 2) this.stop('legs')
      if (!this.alive()) return []
      const readings = await Promise.all(legs.map((leg) => this.read(leg, offset, length)))
      if (areReadable(volume, legs)) return readings
    }
  }

  /**
   * Reads the range again. Where legs still differ each has to flush: a disk that dropped a write
   * unseen leaves then, and what it has does not count.
   */
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

  /**
   * The right bytes: those of `repairFrom`; of more than half of three or more legs; or of the only
   * one of two that can be read. Null when legs disagree otherwise.
   */
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

  /**
   * Writes the right bytes to the leg. A leg that leaves gets them when it is back; the last leg,
   * which must stay, still differs.
   */
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

/** The differences between the legs that could be read. */
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
