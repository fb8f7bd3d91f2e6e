import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import type { StorageError } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import { Mutex } from '../base/mutex.ts'
import { formatSize } from '../base/size.ts'
import type { StateStore } from '../base/store.ts'

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
  private loading: Promise<ReadonlyMap<string, Grown>> | null = null
  /** What is durable; null until it was read. */
  private known: ReadonlyMap<string, Grown> | null = null
  private readonly noting = new Mutex()

  constructor(store: StateStore, clock: Clock) {
    this.store = store
    this.clock = clock
  }

  /** A device is configured with that size. */
  expect(device: string, size: number): void {
    this.configured.set(device, size)
  }

  /**
   * Bytes that a command had the device grow to; 0 if none did. Rejects where nobody can tell, with
   * TIMEOUT where the state directory does not answer.
   */
  async sizeOf(device: string): Promise<number> {
    return (await this.load()).get(device)?.size ?? 0
  }

  /** Sentences, one for each device that the configuration has smaller. */
  get warnings(): readonly string[] {
    return [...(this.known?.values() ?? [])]
      .map((grown) => this.warning(grown))
      .filter((text) => text !== '')
  }

  /**
   * Remembers what is to be enlarged; the warning about it, '' where the configuration may stay.
   * Rejects when that is not durable, and then nothing is remembered.
   */
  note(device: string, size: number): Promise<string> {
    return this.noting.run(() => this.noteAlone(device, size))
  }

  private async noteAlone(device: string, size: number): Promise<string> {
    const grown = { device, size, at: Math.floor(this.clock.wall()) }
    const others = [...(await this.load()).values()].filter((one) => one.device !== device)
    const kept = [...others, grown].filter((one) => this.warning(one) !== '')
    await inTime(this.clock, this.store.save(key, JSON.stringify(kept)), 'the state directory')
    this.known = new Map(kept.map((one) => [one.device, one]))
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

  private async load(): Promise<ReadonlyMap<string, Grown>> {
    if (this.known !== null) return this.known
    this.loading ??= this.store.load(key).then(parse)
    try {
      const found = await inTime(this.clock, this.loading, 'the state directory')
      return (this.known ??= found)
    } catch (error) {
      // What does not answer is waited for, what failed is tried again.
      if ((error as StorageError).code !== 'TIMEOUT') this.loading = null
      throw error
    }
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
