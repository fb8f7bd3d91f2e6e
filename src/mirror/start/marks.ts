import type { Timer } from '../../base/clock.ts'
import { systemError } from '../../base/errors.ts'
import { stored } from '../deadline.ts'
import { failed } from '../departure.ts'
import type { Leg } from '../leg.ts'
import { isGeneration, type Member, type VolumeRecord } from '../record.ts'
import { highestMark, laterMark, markIn, markOf, markOfMember } from '../superblock.ts'
import type { Mark, Superblock } from '../superblock.ts'
import type { Volume } from '../volume.ts'
import { readOwn } from './own-files.ts'

const suffix = '_marks'

/**
 * The serial of a leg's superblock rises with every write of it, so it is a mark: a leg that shows
 * a lower serial than it had on stable storage was put back to an older state, and all of it is
 * copied. Within a run marks are renewed so that little is written without one: before extents
 * leave the log, before what was copied to a leg is called copied, and some time after a flush or a
 * forced write. What was written since the last mark is copied to a leg whose target restarted, see
 * `Leg.safeMoment`.
 *
 * Besides in memory, marks are in every record, and in a file of the head's own beside it. That
 * file may be behind: it is written, and nothing waits for it. Each mark names the generation that
 * the superblock was of. It says nothing of a leg that shows a later generation and a lower serial,
 * because another head may have had that leg meanwhile, starting from an older state by an
 * operator's word.
 */
export class Marks {
  private readonly volume: Volume
  /** The marks by id of the member: those the file had when it was read, and later ones. */
  private readonly known = new Map<string, Mark>()
  private loaded = false
  private saved = ''
  private saving = false
  private timer: Timer | null = null
  /** Whether a forced write has ended since marks were last renewed. */
  private isForced = false

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Reads the file, once. Resolves to why it is unread, '' if it is not. */
  async load(): Promise<string> {
    if (this.loaded) return ''
    const { volume } = this
    const { value, unread } = await readOwn({ volume, suffix }, parse)
    for (const [id, mark] of value ?? []) this.note(id, mark)
    this.loaded = unread === ''
    return unread
  }

  /** The lowest serial that the leg may show where its superblock is this one. */
  of({ member }: Leg, shown: Superblock): number {
    const own = member?.id === shown.self ? this.markOf(member) : null
    return highestMark([own, this.known.get(shown.self) ?? null], shown)
  }

  /** Learns the marks of a record, which led to where the volume is, or is its own. */
  learn(record: VolumeRecord): void {
    for (const { id } of record.members) this.note(id, markIn(record, id))
  }

  /** A flush has ended: marks are renewed some time later, so not for every flush. */
  flushed(): void {
    const { volume } = this
    this.timer ??= volume.clock.timer(volume.settings.intentIdleMs, () => {
      this.timer = null
      void this.renew()
    })
  }

  /** A forced write has ended, and perhaps no flush follows. */
  forced(): void {
    this.isForced = true
    this.flushed()
  }

  /**
   * Stops the timer, because the run ends, and gathers the marks: the next run may begin with a
   * record saved before.
   */
  stop(): void {
    this.timer?.cancel()
    this.timer = null
    this.isForced = false
    this.gather()
  }

  /**
   * Renews the mark of every leg that takes writes, if it has flushed since. A leg that cannot be
   * marked leaves. Never rejects.
   */
  async renew(): Promise<void> {
    const { isForced } = this
    this.isForced = false
    const legs = this.volume.writers.filter(
      (leg) => isForced || leg.flushedMoment > leg.markedMoment,
    )
    await Promise.all(legs.map((leg) => this.renewOn(leg).catch(() => undefined)))
  }

  /**
   * Renews the mark of one leg, for writes before `moment`. Rejects when the leg cannot be marked,
   * and then it has left.
   */
  async renewOn(leg: Leg, moment = leg.flushedMoment): Promise<void> {
    const { volume } = this
    const { epoch, membership } = volume
    try {
      // The superblock of a new leg would name a member that its own record does not have.
      if (!membership.hasSaved(leg)) await membership.settled()
      await leg.superblocks.write(() => membership.recordFor(leg))
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
        await stored(volume, volume.store.save(`${volume.key}${suffix}`, text))
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
    const marks: Record<string, Mark> = {}
    for (const { member } of this.volume.legs) {
      const mark = this.known.get(member?.id ?? '')
      if (mark !== undefined) marks[member!.id] = mark
    }
    return JSON.stringify(marks)
  }

  private gather(): void {
    for (const { member } of this.volume.legs)
      if (member !== null) this.note(member.id, this.markOf(member))
  }

  private note(id: string, mark: Mark | null): void {
    const later = laterMark(mark, this.known.get(id) ?? null)
    if (later !== null) this.known.set(id, later)
  }

  private markOf(member: Member): Mark | null {
    return markOfMember(member, this.volume.record?.generation ?? null)
  }
}

function parse(text: string): Map<string, Mark> | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  const known = new Map<string, Mark>()
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  for (const [id, entry] of Object.entries(value)) {
    const mark = parseMark(entry)
    if (mark !== null) known.set(id, mark)
  }
  return known
}

function parseMark(value: unknown): Mark | null {
  // Older versions wrote the serial alone, without a generation.
  const { serial, generation = null } = (
    typeof value === 'number' ? { serial: value } : (value ?? {})
  ) as Partial<Record<keyof Mark, unknown>>
  if (typeof serial !== 'number' || !Number.isSafeInteger(serial)) return null
  if (generation !== null && !isGeneration(generation)) return null
  return markOf(serial, generation)
}
