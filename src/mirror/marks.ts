import type { Timer } from '../base/clock.ts'
import { StorageError, systemError } from '../base/errors.ts'
import { stored } from './deadline.ts'
import { failed } from './departure.ts'
import type { Leg } from './leg.ts'
import { highestMark } from './superblock.ts'
import type { Volume } from './volume.ts'

/**
 * The serial of a leg's superblock rises with each that is written, so it is a mark: a leg that
 * shows a lower one than it had on stable storage was put back to an older state, and all of it is
 * copied. Within a run marks are renewed so that little is written without one: before extents
 * leave the log, before what was copied to a leg is called copied, and some time after a flush.
 * What was written since the last one is copied to a leg whose target restarted, see
 * `Leg.safeMoment`.
 *
 * Besides in memory, marks are in every record, and in a file of the head's own beside it. That
 * file may be behind: it is written without anybody waiting for it.
 */
export class Marks {
  private readonly volume: Volume
  /** By the id of the member: what the file said when it was read, and what was written since. */
  private known = new Map<string, number>()
  private loaded = false
  private saved = ''
  private saving = false
  private timer: Timer | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Reads the file, once. Rejects when the store does not answer. */
  async load(): Promise<void> {
    const { store } = this.volume
    if (this.loaded || store === null) return
    const text = await stored(this.volume, store.load(this.key)).catch((error: unknown) => {
      if ((error as StorageError).code === 'TIMEOUT') throw error
      return null
    })
    this.known = parse(text ?? '')
    this.loaded = true
  }

  /** The highest serial that the leg is known to have had as this member. */
  of(leg: Leg, self: string): number {
    const mark = leg.member?.id === self ? leg.member.mark : 0
    return highestMark([mark, this.known.get(self)])
  }

  /** A flush has ended: what it made stable is to be marked, but not for each flush. */
  flushed(): void {
    const { volume } = this
    this.timer ??= volume.clock.timer(volume.settings.intentIdleMs, () => {
      this.timer = null
      void this.renew()
    })
  }

  /** The run ends: the next may begin with a record that was saved before. */
  stop(): void {
    this.timer?.cancel()
    this.timer = null
    this.gather()
  }

  /** Marks what every leg that takes writes has flushed. Never rejects: who cannot leaves. */
  async renew(): Promise<void> {
    const legs = this.volume.writers.filter((leg) => leg.flushedMoment > leg.markedMoment)
    await Promise.all(legs.map((leg) => this.renewOn(leg).catch(() => undefined)))
  }

  /** The same of one leg; rejects when it cannot be marked, and then it has left. */
  async renewOn(leg: Leg, moment = leg.flushedMoment): Promise<void> {
    const { volume } = this
    const { epoch, membership } = volume
    try {
      // A new leg's superblock would name a member that its own record does not have.
      if (!membership.hasSaved(leg)) await membership.settled()
      await leg.writeSuperblock(() => membership.recordFor(leg))
    } catch (cause) {
      const error = systemError(cause, 'writing the superblock', leg.device.path)
      const what = volume.run.keepers.includes(leg) ? 'metadata' : 'write'
      if (volume.epoch === epoch) failed(volume, leg, what, error)
      throw error
    }
    if (volume.epoch !== epoch) return
    leg.hasMarked(moment)
    void this.save()
  }

  private async save(): Promise<void> {
    const { volume } = this
    if (this.saving || volume.store === null) return
    this.saving = true
    for (let text = this.text(); text !== this.saved; text = this.text()) {
      try {
        await stored(volume, volume.store.save(this.key, text))
        this.saved = text
      } catch (error) {
        volume.log.debug({ err: error, volume: volume.path }, 'the marks cannot be saved')
        break
      }
    }
    this.saving = false
  }

  private text(): string {
    this.gather()
    const marks: Record<string, number> = {}
    for (const { member } of this.volume.legs)
      if (member !== null) marks[member.id] = this.known.get(member.id) ?? 0
    return JSON.stringify(marks)
  }

  private gather(): void {
    for (const leg of this.volume.legs) {
      const { member } = leg
      if (member !== null) this.known.set(member.id, this.of(leg, member.id))
    }
  }

  private get key(): string {
    return `${this.volume.key}_marks`
  }
}

function parse(text: string): Map<string, number> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return new Map()
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return new Map()
  const marks = Object.entries(value).filter(([, serial]) => Number.isSafeInteger(serial))
  return new Map(marks as [string, number][])
}
