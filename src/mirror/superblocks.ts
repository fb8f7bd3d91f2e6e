import { StorageError } from '../base/errors.ts'
import { Mutex } from '../base/mutex.ts'
import { restartsOf } from '../device/facts.ts'
import {
  metadataBytes,
  pageBytes,
  superblockBytes,
  superblockOffset,
  type Geometry,
} from './layout.ts'
import type { Leg } from './leg.ts'
import { endsOf, type Member, type VolumeRecord } from './record.ts'
import {
  choose,
  decodeSlot,
  encodeSuperblock,
  isNewer,
  serialMax,
  slotLength,
  withFormer,
  type Found,
  type Superblock,
} from './superblock.ts'

/** Places that are looked at in one examination at most, including those that superblocks name. */
const placesMax = 16

/** A place where superblocks may be, the slot of the newest there, and what they say. */
interface Place {
  readonly end: number
  readonly slot: number
  readonly found: Found
}

/** The two superblocks of a leg: what they say, and in which of them the next is written. */
export class Superblocks {
  /** The byte where the leg's metadata end. */
  end = 0
  /** The serial of the newest superblock; 0 if the leg has none. */
  serial = 0
  /** The id of the member in the superblock read last, '' if there was none. */
  self = ''
  private readonly leg: Leg
  /** A serial that the leg had for certain when it was last examined. */
  private mark = 0
  /**
   * The slot that has the newest superblock; and the one in which the last examination found it.
   */
  private slot = 0
  private foundSlot = 0
  private readonly turns = new Mutex()
  /**
   * Whether the newest superblock may be in the device's cache alone, because it was read, not
   * written.
   */
  private serialIsUnflushed = false
  /** The device that was examined last. */
  private seen = ''

  constructor(leg: Leg) {
    this.leg = leg
  }

  /** Reads both superblocks of a leg whose metadata end at `end`. */
  private async examine(end: number): Promise<Found> {
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
   * Finds out what the leg's superblocks say: those at its present end, or at other places if those
   * are newer, because what the leg grew by may hold some of an earlier day. `ends` are what others
   * know of the leg; it may know more itself. Without a `volume` the first that is found counts.
   * Sets `end`. Rejects when a read fails, and with UNAVAILABLE if another device came into its
   * place meanwhile.
   */
  async examineEnds(volume: string, ends: readonly number[]): Promise<Found> {
    const { endNow } = this.leg
    this.seen = this.shown
    const toLookAt = new Set([endNow, ...ends])
    const places: Place[] = []
    let of = volume
    for (const end of toLookAt) {
      if (end !== endNow && (end <= 0 || end > endNow || end % pageBytes !== 0)) continue
      const found = await this.examine(end)
      places.push({ end, slot: this.foundSlot, found })
      if (found.kind !== 'superblock') continue
      of ||= found.superblock.record.volume
      if (found.superblock.record.volume !== of) continue
      // Bounded: other software could name another place in each.
      if (places.length < placesMax)
        for (const other of endsIn(found.superblock)) toLookAt.add(other)
    }
    const newest = places.reduce((one, other) =>
      isNewer(other.found, one.found, of) ? other : one,
    )
    this.mustBeSameDevice()
    this.end = newest.end
    this.foundSlot = newest.slot
    // A place that cannot be understood, or is another volume's, does not make the leg blank.
    if (newest.found.kind === 'blank')
      return places.find(({ found }) => found.kind !== 'blank')?.found ?? newest.found
    const others = places.filter((one) => one !== newest).map(({ found }) => found)
    return withFormer(newest.found, others)
  }

  /** The same for a leg that was examined before: rejects also if another device is there now. */
  async examineAgain(volume: string, ends: readonly number[]): Promise<Found> {
    this.mustBeSameDevice()
    return this.examineEnds(volume, ends)
  }

  /** Remembers what was found; `mark` is a serial that the leg had for certain as this member. */
  note(found: Found, mark: number): void {
    const superblock = found.kind === 'superblock' ? found.superblock : null
    this.serial = superblock?.serial ?? 0
    // The next serial must be above the one that the leg had before it was put back.
    if (superblock !== null) this.serial = Math.max(this.serial, mark)
    this.mark = mark
    this.slot = this.foundSlot
    this.serialIsUnflushed = true
    this.self = superblock?.self ?? ''
  }

  private async readSlot(offset: number): Promise<Found> {
    const start = await this.leg.read(offset, pageBytes)
    const length = slotLength(start)
    if (length <= start.length) return decodeSlot(start)
    const rounded = Math.min(superblockBytes, Math.ceil(length / pageBytes) * pageBytes)
    return decodeSlot(await this.leg.read(offset, rounded))
  }

  /**
   * Writes the record into the slot whose turn it is, never into the only one that is stable;
   * writes go one after the other. `record` is called when it is this write's turn, and may throw
   * if that is too late. Rejects when the write fails.
   */
  write(record: () => VolumeRecord): Promise<void> {
    return this.turns.run(() => this.writeNext(record()))
  }

  /**
   * Prepares the place of both superblocks and writes them, while no other is written. Rejects when
   * any of that fails.
   */
  writeBoth(prepare: () => Promise<void>, record: () => VolumeRecord): Promise<void> {
    return this.turns.run(async () => {
      await prepare()
      await this.writeNext(record())
      await this.writeNext(record())
    })
  }

  private async writeNext(record: VolumeRecord): Promise<void> {
    if (this.serialIsUnflushed) await this.leg.flush()
    this.serialIsUnflushed = false
    if (this.serial < serialMax) {
      await this.writeSlot(record)
      return
    }
    // Only other software writes such a serial, and nothing is above it: serials go on from what
    // the leg had. Until it is overwritten it counts, so a crash finds what was there before.
    this.serial = this.mark
    await this.writeSlot(record)
    await this.writeSlot(record)
  }

  private async writeSlot(record: VolumeRecord): Promise<void> {
    const serial = this.serial + 1
    const slot = 1 - this.slot
    const { device, member } = this.leg
    this.self = member!.id
    const bytes = encodeSuperblock({ serial, self: this.self, record: this.atItsEnd(record) })
    if (bytes === null)
      throw new StorageError('TOO_LARGE', 'the record does not fit a superblock', device.path)
    await this.leg.write(superblockOffset(this.end, slot), bytes)
    // Changed only now: a slot that could not be written may be torn, and is the one to try again.
    this.serial = serial
    this.slot = slot
    member!.mark = serial
    member!.markedIn = { ...record.generation, serial }
  }

  /**
   * The record with the leg's present end, which a head that looks for it may not know otherwise.
   */
  private atItsEnd(record: VolumeRecord): VolumeRecord {
    const { self, end } = this
    const members = record.members.map((one): Member =>
      one.id !== self || one.movesTo === end ? one : { ...one, size: end },
    )
    return { ...record, members }
  }

  /**
   * Makes the leg an image like any other: zeroes all metadata of the volume. Rejects when that
   * fails.
   */
  async erase(geometry: Geometry): Promise<void> {
    const bytes = metadataBytes(geometry)
    await this.leg.zero(this.end - bytes, bytes)
    this.forget()
  }

  /** Treats the leg as blank from now on. */
  forget(): void {
    this.serial = 0
    this.self = ''
  }

  /** Moves the end of the metadata, which are about to be written there. */
  moveTo(end: number): void {
    this.end = end
  }

  /** Whether the device that was examined last is still there. */
  get isAsSeen(): boolean {
    return this.seen === this.shown
  }

  /** Throws UNAVAILABLE if another device is there: what was read says nothing of it. */
  mustBeSameDevice(): void {
    if (!this.isAsSeen) throw anotherDevice(this.leg)
  }

  /** Identifies the device and the present start of its target. */
  private get shown(): string {
    return `${this.leg.device.facts?.identity ?? ''} ${restartsOf(this.leg.device)}`
  }
}

/** The error for a leg whose place another device has taken. */
export function anotherDevice({ device }: Leg): StorageError {
  return new StorageError('UNAVAILABLE', 'another device is in its place', device.path)
}

/** The bytes where the metadata of a leg end, ended or will end, as its superblock says. */
export function endsIn({ self, record }: Superblock): readonly number[] {
  return endsOf(record.members.find(({ id }) => id === self))
}
