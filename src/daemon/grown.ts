import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import type { StorageError } from '../base/errors.ts'
import { fromJson, isMoment, isObject, isSize } from '../base/guards.ts'
import { Mutex } from '../base/mutex.ts'
import { formatSize } from '../base/size.ts'
import type { StateStore } from '../base/store.ts'

/** The key of the record. No device's has it: two digits follow each `_` there, see `keyOf`. */
const key = '_grown'

/** A file that a command enlarged above its configured size. */
interface Grown {
  /** Path of the device in the tree. */
  readonly device: string
  /** Bytes. */
  readonly size: number
  /** Wall clock, milliseconds. */
  readonly at: number
}

/**
 * Remembers the sizes to which commands enlarged files, until the configuration has them: with the
 * old size the next start would not find the metadata, which are at the end.
 */
export class GrownFiles {
  private readonly store: StateStore
  private readonly clock: Clock
  /** The configured sizes in bytes, by device. */
  private readonly configured = new Map<string, number>()
  private loading: Promise<ReadonlyMap<string, Grown>> | null = null
  /** The durable record; null until it was read. */
  private known: ReadonlyMap<string, Grown> | null = null
  private readonly noting = new Mutex()

  constructor(store: StateStore, clock: Clock) {
    this.store = store
    this.clock = clock
  }

  /** Notes that the device is configured with `size` bytes. */
  expect(device: string, size: number): void {
    this.configured.set(device, size)
  }

  /**
   * Resolves to the bytes to which a command enlarged the device, 0 if none did. Rejects when the
   * record cannot be read, with TIMEOUT when the state directory does not answer.
   */
  async sizeOf(device: string): Promise<number> {
    return (await this.load()).get(device)?.size ?? 0
  }

  /** A sentence for each device that is smaller in the configuration. */
  get warnings(): readonly string[] {
    return [...(this.known?.values() ?? [])]
      .map((grown) => this.warning(grown))
      .filter((text) => text !== '')
  }

  /**
   * Remembers that the device will be enlarged to `size` bytes. Resolves to the warning about that,
   * '' if the configuration may stay as it is. Rejects if it cannot be saved, and then remembers
   * nothing.
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
      // The next call waits for a read that hangs, and tries again after one that failed.
      if ((error as StorageError).code !== 'TIMEOUT') this.loading = null
      throw error
    }
  }
}

/** Reads the record, without entries that make no sense: any program may have written the file. */
function parse(text: string | null): Map<string, Grown> {
  const value = fromJson(text ?? '')
  const all = Array.isArray(value) ? value.filter(isGrown) : []
  return new Map(all.map((one) => [one.device, one]))
}

function isGrown(value: unknown): value is Grown {
  if (!isObject(value)) return false
  const { device, size, at } = value
  return typeof device === 'string' && isSize(size) && size > 0 && isMoment(at)
}
