import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import { StorageError, systemError } from '../base/errors.ts'
import { fromJson, isObject } from '../base/guards.ts'
import type { StateStore } from '../base/store.ts'

/** The key in the store; no mirror's key has a dot. */
const key = 'target.lives'
/** Stands for the identity of all devices that have no entry of their own; no device has it. */
const everybody = ''
/** Devices whose lives are kept; beyond that the oldest failures are forgotten. */
const livesMax = 1024

/** A new name for the life of a device's cache that a failed flush began. */
interface Life {
  /** The driver's boot id when the flush failed. */
  readonly from: string
  /** The boot id that is shown instead since then. */
  readonly to: string
  /** Wall clock in milliseconds, raised above that of every known life; the oldest have none. */
  readonly at?: number
}

/**
 * Keeps the lives of caches that began with a failed flush, by the device's identity: a file's boot
 * id is the kernel's, which stays the same when the process that saw the failure ends. A life is
 * durable before the failure is answered, so that no later process shows the old boot id. It is
 * kept twice: in the state directory, and in a spare that outlives processes though not the
 * machine, because the state directory may be on the very disk that fails. Either may lack the last
 * life, also the spare, for a process that is started in another way has another spare; the newer
 * counts. A restart of the machine changes the boot id anyway.
 *
 * Where the record of earlier processes cannot be read, any device may have failed a flush: all of
 * them begin another life with each start. The unreadable record is set aside before another is
 * saved in its place, which says the life that all other devices began then.
 */
export class Lives {
  private readonly store: StateStore
  /** Keeps lives in memory; null where there is no place for it. */
  private readonly spare: StateStore | null
  /** By identity; those that failed last come last. */
  private readonly lives = new Map<string, Life>()
  /** The life of devices without an entry, because the record could not be read; else null. */
  private lost: Life | null = null
  /** The time `at` of the newest life. */
  private newest = 0
  /** Why the record of earlier processes cannot be read; '' if it can. */
  private problem = ''
  /**
   * Resolves to the name under which the unreadable record was set aside; null until another record
   * is to be saved in its place, and after an attempt that failed.
   */
  private aside: Promise<string> | null = null
  private asideName = ''
  private loading: Promise<void> | null = null

  constructor(store: StateStore, spare: StateStore | null = null) {
    this.store = store
    this.spare = spare
  }

  /** Reads what earlier processes saw. Never rejects: `known` says whether it could be read. */
  load(clock: Clock): Promise<void> {
    this.loading ??= inTime(clock, this.read(), 'the state directory').then(
      ([kept, newer]) => {
        if (!this.parse(kept) || !this.parse(newer)) this.problem = 'it makes no sense'
      },
      (error: unknown) => {
        this.problem = systemError(error, 'reading').message
      },
    )
    return this.loading
  }

  private read(): Promise<[string | null, string | null]> {
    return Promise.all([this.store.load(key), this.spare?.load(key) ?? null])
  }

  /** True if the record of earlier processes could be read. */
  get known(): boolean {
    return this.problem === ''
  }

  /** Tells an operator what could not be read and what follows from that; '' if all was read. */
  get warning(): string {
    if (this.known) return ''
    const { asideName } = this
    const what = `the record of failed flushes cannot be read (${this.problem})`
    return asideName === ''
      ? `${what}: until that is mended every start counts as a failed flush of each file and disk`
      : `${what}, and was set aside as ${asideName}: this start counts as a failed flush of each ` +
          'file and disk'
  }

  /** Has this start count as a loss: the record of what happened before cannot be read. */
  lose(life: Life): void {
    if (this.lost?.from !== life.from) this.lost = life
  }

  /** The boot id to show in place of the driver's; null if the driver's is right. */
  of(identity: string, bootId: string): string | null {
    const own = this.lives.get(identity)
    // A flush that failed in another boot says nothing of this one.
    const life = own?.from === bootId ? own : this.lost
    return life?.from === bootId ? life.to : null
  }

  /**
   * Keeps the life that a failed flush began. Resolves when every later process of this boot will
   * know it; rejects when it cannot be saved in time. Saves to the spare at the same time, for the
   * store may fail, or hang, with the disk.
   */
  async keep(identity: string, life: Life, clock: Clock): Promise<void> {
    const { lives } = this
    this.newest = Math.max(this.newest + 1, Math.floor(clock.wall()))
    if (this.lost !== null) this.lost = { ...this.lost, at: this.lost.at ?? this.newest }
    lives.delete(identity)
    lives.set(identity, { ...life, at: this.newest })
    for (const [oldest] of lives) if (lives.size > livesMax) lives.delete(oldest)
    const all = this.lost === null ? [...lives] : [[everybody, this.lost] as const, ...lives]
    const text = JSON.stringify(Object.fromEntries(all))
    // In time, because the client waits for its failed flush.
    const spared = inTime(clock, this.keepInSpare(text), 'the spare').catch(() => false)
    try {
      await inTime(clock, this.keepInStore(text), 'the state directory')
    } catch (error) {
      if (await spared) return
      const { code, message } = systemError(error, 'saving')
      throw new StorageError(code, `that a flush failed cannot be kept: ${message}`)
    }
  }

  private async keepInStore(text: string): Promise<void> {
    if (!this.known) await this.setAside()
    await this.store.save(key, text)
  }

  private async keepInSpare(text: string): Promise<boolean> {
    if (this.spare === null) return false
    try {
      await this.spare.save(key, text)
      return true
    } catch {
      return false
    }
  }

  /** Sets the record aside once: later ones were saved by this process. */
  private async setAside(): Promise<void> {
    this.aside ??= this.store.setAside(key)
    try {
      this.asideName = await this.aside
    } catch (error) {
      this.aside = null
      throw error
    }
  }

  /** Adds the lives of a record that are newer than the known ones. Returns false for nonsense. */
  private parse(text: string | null): boolean {
    if (text === null) return true
    const lives = parse(text)
    if (lives === null) return false
    this.lost = newerOf(this.lost, lives.get(everybody))
    lives.delete(everybody)
    for (const [identity, life] of lives) {
      const newer = newerOf(this.lives.get(identity) ?? null, life)!
      this.newest = Math.max(this.newest, timeOf(newer))
      this.lives.delete(identity)
      this.lives.set(identity, newer)
    }
    return true
  }
}

function newerOf(known: Life | null, other: Life | undefined): Life | null {
  if (known === null || other === undefined) return known ?? other ?? null
  return timeOf(known) > timeOf(other) ? known : other
}

function timeOf({ at }: Life): number {
  return at !== undefined && Number.isSafeInteger(at) && at > 0 ? at : 0
}

const id = /^[0-9a-f]{32}$/

function parse(text: string): Map<string, Life> | null {
  const value = fromJson(text)
  if (!isObject(value)) return null
  const entries = Object.entries(value as Record<string, Partial<Life> | null>)
  const sane = entries.every(([, life]) => id.test(life?.from ?? '') && id.test(life?.to ?? ''))
  return sane ? new Map(entries as [string, Life][]) : null
}
