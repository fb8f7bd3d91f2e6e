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
}

/**
 * Lives of caches that began with a failed flush, by the device's identity: a file's boot id is the
 * kernel's, which is the same when the process that saw the failure has ended. A life is durable
 * before the failure is answered, so that no later process shows the boot id of before.
 *
 * Where it cannot be read what earlier processes saw, any device may have failed a flush: all of
 * them begin another life with each start. What could not be read is set aside before anything
 * is saved in its place, and what is saved says which life all others began then.
 */
export class Lives {
  private readonly store: StateStore
  /** Those that failed last come last. */
  private lives = new Map<string, Life>()
  /** Of devices of which nothing is known, because what was kept could not be read. */
  private lost: Life | null = null
  /** Why what earlier processes saw cannot be read; '' if it can. */
  private problem = ''
  /** Where that was set aside, once something is to be saved in its place. */
  private aside: Promise<string> | null = null
  private asideName = ''
  private loading: Promise<void> | null = null

  constructor(store: StateStore) {
    this.store = store
  }

  /** Resolves when it is known what earlier processes saw, or that nobody can tell in time. */
  load(clock: Clock): Promise<void> {
    this.loading ??= inTime(clock, this.store.load(key), 'the state directory').then(
      (text) => {
        if (text !== null && !this.parse(text)) this.problem = 'it makes no sense'
      },
      (error: unknown) => {
        this.problem = systemError(error, 'reading').message
      },
    )
    return this.loading
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
    const life = this.lives.get(identity) ?? this.lost
    return life?.from === bootId ? life.to : null
  }

  /** A flush failed. Resolves when that is durable; rejects when it cannot be saved. */
  async keep(identity: string, life: Life): Promise<void> {
    const { lives, lost } = this
    lives.delete(identity)
    lives.set(identity, life)
    for (const [oldest] of lives) if (lives.size > livesMax) lives.delete(oldest)
    const all = lost === null ? [...lives] : [[everybody, lost] as const, ...lives]
    const text = JSON.stringify(Object.fromEntries(all))
    try {
      if (!this.known) await this.setAside()
      await this.store.save(key, text)
    } catch (error) {
      const { code, message } = systemError(error, 'saving')
      throw new StorageError(code, `that a flush failed cannot be kept: ${message}`)
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

  private parse(text: string): boolean {
    const lives = parse(text)
    if (lives === null) return false
    this.lost = lives.get(everybody) ?? null
    lives.delete(everybody)
    this.lives = lives
    return true
  }
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
