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
import { disks, later, pattern, quick } from './head.ts'

const random = new SeededRandom(11)

/** A head of a mirror each of whose legs is a mirror of its own. */
class Nest {
  readonly device: Device
  readonly driver: MirrorDriver
  readonly inner = new Map<string, Device>()
  private readonly clock = new MortalClock()
  private readonly drivers: DiskDriver[] = []

  constructor(disks: Readonly<Record<string, Disk>>, store: MemoryStore, away: string[] = []) {
    for (const [name, disk] of Object.entries(disks)) {
      const driver = new DiskDriver(disk, away.includes(name))
      this.drivers.push(driver)
      const leaf = new Device(`m/${name}/only`, driver, this.clock)
      const mirror = this.mirror(`m_${name}`, store, { only: leaf })
      this.inner.set(name, new Device(`m/${name}`, mirror, this.clock))
    }
    this.driver = this.mirror('m', store, Object.fromEntries(this.inner))
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
      settings: { ...quick, legRetryMs: 20, legRetryMsMax: 60_000 },
    })
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

describe('a mirror of mirrors whose head started more than 64 times', () => {
  it('does not serve from a leg that another head has had since, and lost', async () => {
    const legs = disks('a', 'b')
    const older = new MemoryStore()
    await older.save('m_head', '1048000 0')
    await older.save('m_a_head', '1048000 0')
    await older.save('m_b_head', '1048000 0')
    for (let starts = 0; starts < 66; starts++) {
      const head = await new Nest(legs, older).open()
      await head.device.close()
    }
    const first = await new Nest(legs, older).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    const { size } = first.inner.get('b')!.facts!
    await first.device.close()
    const slots = [0, 1].map((slot) => superblockOffset(size, slot))
    legs['b']!.fault = ({ operation, offset }) =>
      operation === Operation.write && slots.includes(offset) ? new StorageError('IO', 'bad') : null
    const second = await new Nest(legs, new MemoryStore()).open()
    for (let n = 0; n < 500 && !second.device.usable; n++) await later(2)
    expect(second.device.usable).to.equal(true)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    expect([legs['a']!.cached[0], legs['b']!.cached[0]]).to.deep.equal([2, 1])
    second.kill()
    legs['b']!.fault = () => null
    const third = await new Nest(legs, older, ['a']).open()
    await later(100)
    const found = third.device.usable ? (await read(third.device, 0, 4096))[0] : 'it waits'
    expect(found).to.equal('it waits')
    third.kill()
  })
})
