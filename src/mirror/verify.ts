import { StorageError, systemError } from '../base/errors.ts'
import { differentBytes } from './compare.ts'
import { failed, readFailed } from './departure.ts'
import { syncDirtyMaps } from './dirty.ts'
import type { Leg } from './leg.ts'
import { Pace } from './pace.ts'
import { LockedRange } from './locked.ts'
import type { Volume } from './volume.ts'

export interface VerifyOptions {
  /** The leg whose bytes are right wherever legs differ. */
  readonly repairFrom?: string
  /** Whether a majority of three or more repairs the others; true if absent. */
  readonly repair?: boolean
  /** Bytes per second at most. */
  readonly bytesPerSecond?: number
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

/** What one leg reads in the range being compared; null when it cannot. */
interface Reading {
  readonly leg: Leg
  bytes: Buffer | null
}

/** Compares all legs in sync while the volume runs, each piece with its range locked. */
export class Verify {
  private readonly volume: Volume
  private readonly epoch: number
  private readonly options: VerifyOptions
  private readonly pace: Pace
  private readonly startedAt: number
  private readonly differences: Difference[] = []
  private stopped = false
  private offset = 0
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
    this.epoch = volume.epoch
    this.options = options
    const limit = options.bytesPerSecond ?? volume.settings.resyncBytesPerSecond
    this.pace = new Pace(volume, limit)
    this.startedAt = volume.clock.now()
  }

  async run(): Promise<VerifyResult> {
    const { volume } = this
    const workers = Array.from({ length: volume.settings.resyncWindow }, () => this.work())
    await Promise.all(workers)
    const complete = this.alive() && this.offset >= volume.record!.dataSize
    const { bytesChecked, bytesDifferent, bytesRepaired, differences } = this
    if (volume.epoch === this.epoch) this.remember(complete)
    return { bytesChecked, bytesDifferent, bytesRepaired, complete, differences }
  }

  stop(): void {
    this.stopped = true
  }

  describe(): Record<string, unknown> {
    const total = this.volume.record?.dataSize ?? 0
    const seconds = Math.max(0.001, (this.volume.clock.now() - this.startedAt) / 1000)
    const bytesPerSecond = Math.round(this.bytesChecked / seconds)
    const bytesLeft = total - this.bytesChecked
    return {
      bytesDone: this.bytesChecked,
      bytesLeft,
      bytesDifferent: this.bytesDifferent,
      bytesRepaired: this.bytesRepaired,
      percent: total === 0 ? 100 : Math.floor((1000 * this.bytesChecked) / total) / 10,
      bytesPerSecond,
      secondsLeft: bytesPerSecond === 0 ? null : Math.ceil(bytesLeft / bytesPerSecond),
    }
  }

  private alive(): boolean {
    return !this.stopped && this.volume.epoch === this.epoch
  }

  private remember(complete: boolean): void {
    const { volume, bytesDifferent, bytesRepaired } = this
    const outcome = complete ? 'complete' : 'stopped'
    volume.remember('verify', '', `${bytesDifferent} bytes differed, ${bytesRepaired} repaired`, {
      kind: 'verify',
      cause: 'asked for',
      source: this.options.repairFrom ?? 'majority',
      bytes: this.bytesChecked,
      milliseconds: Math.round(volume.clock.now() - this.startedAt),
      outcome,
    })
    volume.membership.request(false)
  }

  private async work(): Promise<void> {
    const { volume } = this
    const { dataSize } = volume.record!
    while (this.alive() && this.offset < dataSize) {
      const { offset } = this
      const length = Math.min(volume.settings.resyncChunkBytes, dataSize - offset)
      this.offset += length
      await this.pace.before(length)
      if (!this.alive()) break
      const range = new LockedRange(offset, offset + length)
      await range.acquire(volume)
      if (this.alive()) await this.compare(offset, length)
      if (volume.epoch === this.epoch) volume.locks.release(range)
      if (this.alive()) this.bytesChecked += length
    }
  }

  private async compare(offset: number, length: number): Promise<void> {
    const legs = [...this.volume.readable]
    // What one leg says alone is not compared with anything.
    if (legs.length < 2) this.stop()
    if (!this.alive()) return
    if (equal(await this.readAll(legs, offset, length))) return
    // Once more: what differs for a moment only is no difference.
    const readings = await this.readAll(legs, offset, length)
    if (equal(readings) || !this.alive()) return
    const right = this.decide(readings)
    const wrong = readings.filter(({ bytes }) => right === null || bytes?.equals(right) !== true)
    const different = largestDifference(readings)
    this.bytesDifferent += different
    let repaired = right !== null && this.options.repair !== false
    if (right !== null && repaired) {
      await this.noteElsewhere(offset, length)
      // One that is being filled, and is about to be in sync, gets it as well.
      const well = readings.filter((one) => !wrong.includes(one)).map(({ leg }) => leg)
      for (const leg of new Set([...legs, ...this.volume.writers]))
        if (!well.includes(leg)) repaired = (await this.rewrite(leg, offset, right)) && repaired
      if (repaired) this.bytesRepaired += different
    }
    if (this.differences.length < differencesMax) {
      const names = wrong.map(({ leg }) => leg.name)
      this.differences.push({ offset, length, legs: names, repaired })
    }
  }

  /** Legs that are not compared may have copied what is wrong: they lack what is right. */
  private async noteElsewhere(offset: number, length: number): Promise<void> {
    for (const leg of this.volume.legs) this.note(leg, offset, length)
    await syncDirtyMaps(this.volume)
  }

  private note({ dirty }: Leg, offset: number, length: number): void {
    dirty?.miss(offset, offset + length)
  }

  private readAll(legs: readonly Leg[], offset: number, length: number): Promise<Reading[]> {
    const read = async (leg: Leg): Promise<Reading> => {
      try {
        return { leg, bytes: await leg.read(offset, length) }
      } catch (error) {
        if (this.alive()) readFailed(this.volume, leg, systemError(error, 'verify'))
        return { leg, bytes: null }
      }
    }
    return Promise.all(legs.map(read))
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

  /** Whether it has the bytes now; one that leaves, or has left, gets them when it is back. */
  private async rewrite(leg: Leg, offset: number, bytes: Buffer): Promise<boolean> {
    const { volume } = this
    if (!this.alive()) return false
    try {
      if (volume.writers.includes(leg)) {
        await leg.write(offset, bytes)
        return true
      }
    } catch (error) {
      if (this.alive()) failed(volume, leg, 'write', systemError(error, 'verify'))
    }
    if (!this.alive()) return false
    this.note(leg, offset, bytes.length)
    await syncDirtyMaps(volume)
    return false
  }
}

function equal(readings: readonly Reading[]): boolean {
  const first = readings[0]?.bytes ?? null
  if (readings.length < 2) return true
  return first !== null && readings.every(({ bytes }) => bytes?.equals(first) === true)
}

function largestDifference(readings: readonly Reading[]): number {
  const first = readings.find(({ bytes }) => bytes !== null)?.bytes
  if (first === undefined || first === null) return 0
  let most = 0
  for (const { bytes } of readings)
    most = Math.max(most, bytes === null ? first.length : differentBytes(first, bytes))
  return most
}
