import { expect } from 'chai'
import { silentLog } from '../../src/base/log.ts'
import { SeededRandom } from '../../src/base/random.ts'
import { MemoryStore } from '../../src/base/store.ts'
import { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { MortalClock } from '../support/clock.ts'
import { flush, read, write } from '../support/io.ts'
import { StorageError } from '../../src/base/errors.ts'
import { DiskDriver, type Disk } from './disk.ts'
import { disks, later, pattern, quick, until } from './head.ts'

const random = new SeededRandom(77)

type Names = 'a' | 'n' | 'r'

/** A mirror of a remote `a` and of a mirror `b`, of an NBD server's `n` and a remote `r`. */
class Nest {
  readonly device: Device
  readonly driver: MirrorDriver
  readonly b: Device
  readonly inner: MirrorDriver
  private readonly clock = new MortalClock()
  private readonly drivers: DiskDriver[] = []

  constructor(disks: Readonly<Record<Names, Disk>>, store: MemoryStore, away: string[] = []) {
    const leaf = (name: Names): Device => {
      const driver = new DiskDriver(disks[name], away.includes(name))
      if (name === 'n')
        for (const method of ['claim', 'claimed', 'stamp'])
          Object.defineProperty(driver, method, { value: undefined })
      this.drivers.push(driver)
      return new Device(`m/${name}`, driver, this.clock)
    }
    this.inner = this.mirror('m_b', store, { n: leaf('n'), r: leaf('r') })
    this.b = new Device('m/b', this.inner, this.clock)
    this.driver = this.mirror('m', store, { a: leaf('a'), b: this.b })
    this.device = new Device('m', this.driver, this.clock)
  }

  private mirror(key: string, store: MemoryStore, legs: Record<string, Device>): MirrorDriver {
    const { clock } = this
    return new MirrorDriver({
      legs: Object.entries(legs).map(([name, device]) => ({ name, device, readLast: false })),
      clock,
      random,
      log: silentLog,
      store,
      key,
      settings: { ...quick, legRetryMs: 60_000, legRetryMsMax: 60_000 },
    })
  }

  async open(): Promise<this> {
    await this.device.open()
    return this
  }

  until(what: string, so: () => boolean): Promise<void> {
    return until(what, so, () => this.driver.describe())
  }

  kill(): void {
    for (const driver of this.drivers) driver.sever()
    this.clock.die()
  }
}

function stateOf(driver: MirrorDriver, name: string): string {
  return (driver.describe() as { legs: Record<string, { state: string }> }).legs[name]!.state
}

describe('a mirror above one that finds what another head wrote to its superblocks', () => {
  it('does not serve from it alone, while a leg that went on is away', async () => {
    const legs = disks('a', 'n', 'r') as Record<Names, Disk>
    for (const disk of Object.values(legs)) disk.restarts = 0
    const older = new MemoryStore()
    const first = await new Nest(legs, older).open()
    await first.until('both', () => first.device.usable && stateOf(first.driver, 'b') === 'in-sync')
    await first.until('r', () => stateOf(first.inner, 'r') === 'in-sync')
    legs.r.goAway()
    await first.until('r left', () => stateOf(first.inner, 'r') === 'missing')
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    const { size } = first.b.facts!
    await first.device.close()
    // Another head takes both, and loses b before b has a superblock of its own of it.
    const slots = [0, 1].map((slot) => superblockOffset(size, slot))
    legs.n.fault = ({ operation, offset }) =>
      operation === Operation.write && slots.includes(offset) ? new StorageError('IO', 'bad') : null
    const second = await new Nest(legs, new MemoryStore(), ['r']).open()
    await second.until('it serves', () => second.device.usable)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    expect([legs.a.cached[0], legs.n.cached[0]]).to.deep.equal([2, 1])
    second.kill()
    legs.n.fault = () => null
    const third = await new Nest(legs, older, ['a', 'r']).open()
    await third.until('b runs', () => third.b.usable)
    await later(100)
    const found = third.device.usable ? (await read(third.device, 0, 4096))[0] : 'it waits'
    expect(found).to.equal('it waits')
    third.kill()
  })
})
