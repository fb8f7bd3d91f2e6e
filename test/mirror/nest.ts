import { silentLog } from '../../src/base/log.ts'
import { Device } from '../../src/device/device.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { MortalClock } from '../support/clock.ts'
import { DiskDriver, type Disk } from './disk.ts'
import { quick, until } from './head.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const random = new SeededRandom(11)

/** What a mirror of `build` is made of: disks, and mirrors of such. */
export interface Builder {
  /** A leaf of that disk, which may be an NBD server that knows no claims. */
  readonly leaf: (name: string, kind?: 'nbd') => Device
  readonly mirror: (name: string, legs: Record<string, Device>) => Device
}

/**
 * A head of a mirror `m` of mirrors: `build` makes its legs. By default each leg is a mirror of
 * one disk, of the same name.
 */
export class Nest {
  readonly device: Device
  readonly driver: MirrorDriver
  /** The mirrors below, by name. */
  readonly inner = new Map<string, Device>()
  private readonly clock = new MortalClock()
  private readonly drivers: DiskDriver[] = []
  private readonly store: MemoryStore
  private readonly legRetryMs: number

  constructor(
    disks: Readonly<Record<string, Disk>>,
    store: MemoryStore,
    away: readonly string[] = [],
    {
      build = oneEach(Object.keys(disks)),
      legRetryMs = 20,
    }: { build?: (builder: Builder) => Record<string, Device>; legRetryMs?: number } = {},
  ) {
    this.store = store
    this.legRetryMs = legRetryMs
    const leaf: Builder['leaf'] = (name, kind) => {
      const driver = new DiskDriver(disks[name]!, away.includes(name))
      if (kind === 'nbd')
        for (const method of ['claim', 'claimed', 'stamp'])
          Object.defineProperty(driver, method, { value: undefined })
      this.drivers.push(driver)
      return new Device(`m/${name}`, driver, this.clock)
    }
    const mirror: Builder['mirror'] = (name, legs) => {
      const device = new Device(`m/${name}`, this.mirror(`m_${name}`, legs), this.clock)
      this.inner.set(name, device)
      return device
    }
    this.driver = this.mirror('m', build({ leaf, mirror }))
    this.device = new Device('m', this.driver, this.clock)
  }

  private mirror(key: string, legs: Record<string, Device>): MirrorDriver {
    const { clock, store, legRetryMs } = this
    return new MirrorDriver({
      legs: Object.entries(legs).map(([name, device]) => ({ name, device, readLast: false })),
      clock,
      random,
      log: silentLog,
      store,
      key,
      settings: { ...quick, legRetryMs, legRetryMsMax: 60_000 },
    })
  }

  /** State of a leg, of `m` or of the mirror below that is given. */
  state(name: string, { driver }: Pick<Device, 'driver'> = this): string {
    const { legs } = driver.describe() as { legs: Record<string, { state: string }> }
    return legs[name]!.state
  }

  until(what: string, so: () => boolean): Promise<void> {
    return until(what, so, () => this.driver.describe())
  }

  inSync(): Promise<void> {
    const { legs } = this.driver.describe() as { legs: Record<string, unknown> }
    const all = Object.keys(legs)
    return this.until('all in sync', () => all.every((name) => this.state(name) === 'in-sync'))
  }

  async open(): Promise<this> {
    await this.device.open()
    return this
  }

  kill(): void {
    for (const driver of this.drivers) driver.sever()
    this.clock.die()
  }
}

function oneEach(names: readonly string[]): (builder: Builder) => Record<string, Device> {
  return ({ leaf, mirror }) =>
    Object.fromEntries(names.map((name) => [name, mirror(name, { only: leaf(name) })]))
}
