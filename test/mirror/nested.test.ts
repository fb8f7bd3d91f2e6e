import { expect } from 'chai'
import { silentLog } from '../../src/base/log.ts'
import { SeededRandom } from '../../src/base/random.ts'
import { MemoryStore } from '../../src/base/store.ts'
import { Device } from '../../src/device/device.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { MortalClock } from '../support/clock.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { StorageError } from '../../src/base/errors.ts'
import { DiskDriver, type Disk } from './disk.ts'
import { disks, extentSize, later, outcome, pattern, quick, until } from './head.ts'

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

  state(name: string): string {
    const { legs } = this.driver.describe() as { legs: Record<string, { state: string }> }
    return legs[name]!.state
  }

  until(what: string, so: () => boolean): Promise<void> {
    return until(what, so, () => this.driver.describe())
  }

  inSync(): Promise<void> {
    const all = [...this.inner.keys()]
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

describe('a mirror of mirrors', () => {
  it('does not serve from a leg that another head has had since, and lost', async () => {
    const legs = disks('a', 'b')
    const older = new MemoryStore()
    await older.save('m_head', '1048000 0')
    await older.save('m_a_head', '1048000 0')
    await older.save('m_b_head', '1048000 0')
    const first = await new Nest(legs, older).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    const { size } = first.inner.get('b')!.facts!
    await first.device.close()
    const slots = [0, 1].map((slot) => superblockOffset(size, slot))
    legs['b']!.fault = ({ operation, offset }) =>
      operation === Operation.write && slots.includes(offset) ? new StorageError('IO', 'bad') : null
    const second = await new Nest(legs, new MemoryStore()).open()
    await second.until('it runs', () => second.device.usable)
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

  for (const [what, act] of [
    ['flush', (head: Nest) => flush(head.device)],
    [
      'forced write',
      (head: Nest) =>
        submit(head.device, Operation.write, 8 * extentSize, 4096, Flag.fua, [pattern(2)]),
    ],
    [
      'forced zeroes',
      (head: Nest) => submit(head.device, Operation.writeZeroes, 8 * extentSize, 4096, Flag.fua),
    ],
  ] as const)
    it(`copies to a leg what it lost with a ${what}, also after a restart`, async () => {
      const legs = disks('a', 'b')
      const { a, b } = legs
      a!.say({ fua: 'emulated' })
      const store = new MemoryStore()
      const head = await new Nest(legs, store).open()
      await write(head.device, 0, pattern(1))
      await write(head.device, 8 * extentSize, pattern(1))
      await flush(head.device)
      await write(head.device, 0, pattern(2))
      a!.dropAtFlush()
      await act(head)
      await head.until('a has it', () => head.state('a') === 'in-sync' && a!.cached[0] === 2)
      expect(b!.cached[0]).to.equal(2)
      expect(head.device.losses).to.equal(0)
      head.kill()
      const next = await new Nest(legs, store).open()
      await next.inSync()
      expect([a!.cached[0], b!.cached[0]]).to.deep.equal([2, 2])
      await next.device.close()
    })

  it('does not acknowledge what a leg lost that restarts while the write waits', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs
    const head = await new Nest(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    b!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    const writing = outcome(write(head.device, 0, pattern(2)))
    await later(20)
    a!.restart()
    await later(20)
    b!.goAway()
    await later(20)
    b!.hold = () => false
    b!.comeBack()
    const wrote = await writing
    await head.inSync()
    const flushed = await outcome(flush(head.device))
    const found = (await read(head.device, 0, 4096))[0]
    expect(a!.cached[0]).to.equal(b!.cached[0])
    if (wrote === 'done' && flushed === 'done' && head.device.losses === 0)
      expect(found).to.equal(2)
    await head.device.close()
  })
})
