import type { Clock } from '../base/clock.ts'
import { formatSize } from '../base/size.ts'
import type { StateStore } from '../base/store.ts'
import { isObject } from './tree.ts'

/** No device's record has this name: a `_` is always followed by two digits there, see `keyOf`. */
const key = '_grown'

/** A file that a command enlarged, and for which the configuration has a smaller size. */
interface Grown {
  /** Path of the device in the tree. */
  readonly device: string
  /** Bytes. */
  readonly size: number
  /** Wall clock, milliseconds. */
  readonly at: number
}

/**
 * Remembers what commands enlarged until the configuration says so: with the size of before the
 * next start would not find the metadata, which are at the end.
 */
export class GrownFiles {
  private readonly store: StateStore
  private readonly clock: Clock
  /** Bytes by the configuration, of devices that have a size there. */
  private readonly configured = new Map<string, number>()
  private loaded: Promise<Map<string, Grown>> | null = null
  private known = new Map<string, Grown>()

  constructor(store: StateStore, clock: Clock) {
    this.store = store
    this.clock = clock
  }

  /** A device is configured with that size. */
  expect(device: string, size: number): void {
    this.configured.set(device, size)
  }

  /** Bytes that a command had the device grow to; 0 if none did. Rejects while nobody can tell. */
  async sizeOf(device: string): Promise<number> {
    await this.load()
    return this.known.get(device)?.size ?? 0
  }

  /** Sentences, one for each device that the configuration has smaller. */
  get warnings(): readonly string[] {
    return [...this.known.values()]
      .map((grown) => this.warning(grown))
      .filter((text) => text !== '')
  }

  /** Remembers what was enlarged; the warning about it, '' where the configuration may stay. */
  async note(device: string, size: number): Promise<string> {
    const grown = { device, size, at: Math.floor(this.clock.wall()) }
    await this.load()
    this.known.set(device, grown)
    const kept = [...this.known.values()].filter((one) => this.warning(one) !== '')
    this.known = new Map(kept.map((one) => [one.device, one]))
    await this.store.save(key, JSON.stringify(kept))
    return this.warning(grown)
  }

  private warning({ device, size, at }: Grown): string {
    const configured = this.configured.get(device)
    if (configured === undefined || configured >= size) return ''
    const when = new Date(at).toISOString().slice(0, 16).replace('T', ' ')
    const [old, now] = [formatSize(configured), formatSize(size)]
    return (
      `${device} was enlarged by a command at ${when}, and the configuration has its size as ` +
      `${old}: write "size": "${now}" there`
    )
  }

  private async load(): Promise<void> {
    this.loaded ??= this.store.load(key).then(parse)
    try {
      this.known = await this.loaded
    } catch (error) {
      this.loaded = null
      throw error
    }
    this.loaded = Promise.resolve(this.known)
  }
}

/** Nothing of what makes no sense: the file may be anybody's. */
function parse(text: string | null): Map<string, Grown> {
  let value: unknown = null
  try {
    value = JSON.parse(text ?? '[]')
  } catch {
    // Nothing is known then.
  }
  const all = Array.isArray(value) ? value.filter(isGrown) : []
  return new Map(all.map((one) => [one.device, one]))
}

/** Wall clock, milliseconds: the last that a date can be. */
const wallMax = 8.64e15

function isGrown(value: unknown): value is Grown {
  if (!isObject(value)) return false
  const { device, size, at } = value
  const dated = typeof at === 'number' && at >= 0 && at <= wallMax
  return typeof device === 'string' && Number.isSafeInteger(size) && (size as number) > 0 && dated
}
