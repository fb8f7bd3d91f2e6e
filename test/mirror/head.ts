import { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { silentLog } from '../../src/base/log.ts'
import { Device } from '../../src/device/device.ts'
import type { Operation } from '../../src/device/request.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { HistoryEntry } from '../../src/mirror/record.ts'
import type { MirrorSettings } from '../../src/mirror/settings.ts'
import type { StateStore } from '../../src/base/store.ts'
import { MortalClock } from '../support/clock.ts'
import { Disk, DiskDriver } from './disk.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

export const extentSize = 64 * KiB

/** Milliseconds; less than mocha gives a test, which could not say what was so. */
const untilMsMax = 120_000

export const quick: Partial<MirrorSettings> = {
  extentSize,
  legRetryMs: 5,
  legRetryMsMax: 20,
  suspendMs: 2000,
  legTimeoutMs: 2000,
}

const random = new SeededRandom(7)

/** Those that a test has made. */
const heads = new Set<Head>()

// A head that goes on after its test tries its legs again and again: with some hundred of them all
// later tests are slow, and memory is not given back.
afterEach(() => {
  for (const head of heads) head.kill()
  heads.clear()
})

/** One run of a mirror over disks, as a process would have it. */
export class Head {
  readonly device: Device
  readonly driver: MirrorDriver
  readonly legs = new Map<string, Device>()
  private readonly drivers: DiskDriver[] = []
  /** What it warned of in the log. */
  readonly warnings: string[] = []
  readonly clock = new MortalClock()

  constructor(
    disks: Readonly<Record<string, Disk>>,
    store: StateStore | null,
    settings: Partial<MirrorSettings> = {},
    away: readonly string[] = [],
    readLast: readonly string[] = [],
  ) {
    const { clock } = this
    heads.add(this)
    for (const [name, disk] of Object.entries(disks)) {
      const driver = new DiskDriver(disk, away.includes(name))
      this.drivers.push(driver)
      this.legs.set(name, new Device(`m/${name}`, driver, clock))
    }
    this.driver = new MirrorDriver({
      legs: [...this.legs].map(([name, device]) => ({
        name,
        device,
        readLast: readLast.includes(name),
      })),
      clock,
      random,
      log: { ...silentLog, warn: (_, message) => this.warnings.push(message) },
      store,
      key: 'm',
      settings: { ...quick, ...settings },
    })
    this.device = new Device('m', this.driver, clock)
  }

  /** Waits longer for the start than others are kept waiting for: the machine may be busy. */
  async open(): Promise<this> {
    await this.device.open()
    const starts = (): boolean => /takes long|looking whether/.test(this.device.state.reason)
    await this.until('it has started', () => !starts())
    return this
  }

  /** Dies without a word: what it had under way goes nowhere. */
  kill(): void {
    for (const driver of this.drivers) driver.sever()
    this.clock.die()
  }

  leg(name: string): Record<string, unknown> & { state: string; reason: string } {
    const legs = this.driver.describe()['legs'] as Record<string, never>
    return legs[name]!
  }

  state(name: string): string {
    return this.leg(name).state
  }

  history(): readonly HistoryEntry[] {
    return this.driver.history()
  }

  lastResync(leg: string) {
    return this.history().findLast((entry) => entry.leg === leg && entry.resync !== undefined)
      ?.resync
  }

  until(what: string, so: () => boolean): Promise<void> {
    return until(what, so, () => this.driver.describe())
  }

  /** Waits until the legs are in sync and the volume takes requests. */
  inSync(...names: string[]): Promise<void> {
    const so = (): boolean => names.every((name) => this.state(name) === 'in-sync')
    return this.until(`${names.join()} in sync`, () => so() && this.device.usable)
  }
}

export function disks(...names: string[]): Record<string, Disk> {
  return Object.fromEntries(names.map((name) => [name, new Disk(4 * MiB)]))
}

export function pattern(fill: number, length = 4096): Buffer {
  return Buffer.alloc(length, fill)
}

/**
 * Lets time pass in which something could happen that must not. What must happen is waited for with
 * `until`: a busy machine takes longer than any time named here.
 */
export function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Waits until something is so; after minutes it is said what was so instead. */
export async function until(
  what: string,
  so: () => boolean,
  instead: () => unknown = () => '',
): Promise<void> {
  const deadline = performance.now() + untilMsMax
  while (!so()) {
    if (performance.now() > deadline)
      throw new Error(`never: ${what}; ${JSON.stringify(instead())}`)
    await later(2)
  }
}

/** The disk answers so with IO. */
export function failing(disk: Disk, when: (operation: Operation, offset: number) => boolean): void {
  disk.fault = ({ operation, offset }) =>
    when(operation, offset) ? new StorageError('IO', 'bad disk') : null
}

/** The code of the error, or 'done'. */
export async function outcome(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'done'
  } catch (error) {
    return (error as StorageError).code
  }
}

/** Keeps what it is to save until the gate opens. */
export class HeldStore extends MemoryStore implements StateStore {
  gate = Promise.resolve()

  /** Shuts the gate; returns what opens it. */
  shut(): () => void {
    let open: () => void = () => undefined
    this.gate = new Promise((resolve) => (open = resolve))
    return open
  }
  /** Saves that were asked for. */
  asked = 0

  override async save(key: string, text: string): Promise<void> {
    this.asked++
    await this.gate
    await super.save(key, text)
  }
}

export { MemoryStore }

/** The error's message, 'done' without one. */
export async function answer(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    (error: unknown) => (error as StorageError).message,
  )
}
