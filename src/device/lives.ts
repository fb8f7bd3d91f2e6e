import { StorageError } from '../base/errors.ts'
import type { StateStore } from '../base/store.ts'

/** Under which the store keeps them; no mirror's key has a dot. */
const key = 'target.lives'
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
 */
export class Lives {
  private readonly store: StateStore
  /** Those that failed last come last; null when nobody can read what earlier processes saw. */
  private lives: Map<string, Life> | null = new Map()
  private loading: Promise<void> | null = null

  constructor(store: StateStore) {
    this.store = store
  }

  /** Resolves when it is known what earlier processes saw, or that nobody can tell. */
  load(): Promise<void> {
    this.loading ??= this.store.load(key).then(
      (text) => {
        this.lives = text === null ? new Map() : parse(text)
      },
      () => {
        this.lives = null
      },
    )
    return this.loading
  }

  /** Whether it is known what earlier processes saw. */
  get known(): boolean {
    return this.lives !== null
  }

  /** What the driver's boot id is to be called; null for what it says itself. */
  of(identity: string, bootId: string): string | null {
    const life = this.lives?.get(identity)
    return life?.from === bootId ? life.to : null
  }

  /** A flush failed. Resolves when that is durable; rejects when it cannot be saved. */
  keep(identity: string, life: Life): Promise<void> {
    const lives = (this.lives ??= new Map<string, Life>())
    lives.delete(identity)
    lives.set(identity, life)
    for (const [oldest] of lives) if (lives.size > livesMax) lives.delete(oldest)
    const text = JSON.stringify(Object.fromEntries(lives))
    return this.store.save(key, text).catch((error: unknown) => {
      const { code, message } = error as StorageError
      throw new StorageError(code, `that a flush failed cannot be kept: ${message}`)
    })
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
