import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import { StorageError, systemError } from '../base/errors.ts'
import type { StateStore } from '../base/store.ts'

/** Under which the store keeps them; no mirror's key has a dot. */
const key = 'target.lives'
/** In place of an identity: the life of every device of which nothing is kept. No device has it. */
const everybody = ''
/** Devices whose lives are kept; of more, those that failed longest ago are forgotten. */
const livesMax = 1024

/** What a device calls the life of its cache that a failed flush began. */
interface Life {
  /** The driver's boot id, of the boot in which it failed. */
  readonly from: string
  /** What it has been since. */
  readonly to: string
  /** Wall clock, milliseconds, or more: above that of any life that was known. Oldest without. */
  readonly at?: number
}

/**
 * Lives of caches that began with a failed flush, by the device's identity: a file's boot id is the
 * kernel's, which is the same when the process that saw the failure has ended. A life is durable
 * before the failure is answered, so that no later process shows the boot id of before. It is kept
 * twice: in the state directory, and in a spare that outlives processes though not the machine,
 * because the state directory may be on the very disk that fails. Either may have missed the last
 * one, also the spare: who starts a process in another way gives it another. The newer counts.
 * Whoever starts the machine again changes the boot id.
 *
 * Where it cannot be read what earlier processes saw, any device may have failed a flush: all of
 * them begin another life with each start. What could not be read is set aside before anything
 * is saved in its place, and what is saved says which life all others began then.
 */
export class Lives {
  private readonly store: StateStore
  /** In memory. Null where there is no place for one. */
  private readonly spare: StateStore | null
  /** Those that failed last come last. */
  private readonly lives = new Map<string, Life>()
  /** Of devices of which nothing is known, because what was kept could not be read. */
  private lost: Life | null = null
  /** When the newest of them began. */
  private newest = 0
  /** Why what earlier processes saw cannot be read; '' if it can. */
  private problem = ''
  /** Where that was set aside, once something is to be saved in its place. */
  private aside: Promise<string> | null = null
  private asideName = ''
  private loading: Promise<void> | null = null

  constructor(store: StateStore, spare: StateStore | null = null) {
    this.store = store
    this.spare = spare
  }

  /** Resolves when it is known what earlier processes saw, or that nobody can tell in time. */
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

  /** Whether it is known what earlier processes saw. */
  get known(): boolean {
    return this.problem === ''
  }

  /** For an operator: what of earlier processes is not known, and what follows; '' if all is. */
  get warning(): string {
    if (this.known) return ''
    const { asideName } = this
    const what = `which flushes failed before cannot be read (${this.problem})`
    return asideName === ''
      ? `${what}: until that is mended every start counts as a failed flush of each file and disk`
      : `${what}, and was set aside as ${asideName}: this start counts as a failed flush of each ` +
          'file and disk'
  }

  /** Without a record of what happened before, this start counts as a loss. */
  lose(life: Life): void {
    if (this.lost?.from !== life.from) this.lost = life
  }

  /** What the driver's boot id is to be called; null for what it says itself. */
  of(identity: string, bootId: string): string | null {
    const own = this.lives.get(identity)
    // What it failed in another boot says nothing of this one.
    const life = own?.from === bootId ? own : this.lost
    return life?.from === bootId ? life.to : null
  }

  /**
   * A flush failed. Resolves when every later process of this boot knows it; rejects when it cannot
   * be saved in time. The spare does not wait: the store may fail, or hang, with the disk.
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
    // Who waits for a flush is told some time that it failed.
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

  /** Once: from then on what is there was saved by this process. */
  private async setAside(): Promise<void> {
    this.aside ??= this.store.setAside(key)
    try {
      this.asideName = await this.aside
    } catch (error) {
      this.aside = null
      throw error
    }
  }

  /** Adds what was kept, unless a newer life of the same device is known. */
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
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  const entries = Object.entries(value as Record<string, Partial<Life> | null>)
  const sane = entries.every(([, life]) => id.test(life?.from ?? '') && id.test(life?.to ?? ''))
  return sane ? new Map(entries as [string, Life][]) : null
}
