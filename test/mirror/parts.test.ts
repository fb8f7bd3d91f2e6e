import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { MiB } from '../../src/base/size.ts'
import { Device, type DriverHost } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { write } from '../support/io.ts'
import { Disk, DiskDriver } from './disk.ts'
import { MemoryStore, pattern, quick, until } from './head.ts'
import { SeededRandom } from '../support/seeded.ts'

/** A part that can be turned away like a remote whose target a newer head has claimed. */
class Part extends DiskDriver {
  private known: DriverHost | null = null
  private fenced = false

  override open(host: DriverHost): Promise<void> {
    this.known = host
    return super.open(host)
  }

  override fence(): void {
    this.fenced = true
    this.known!.offline('failed', 'a newer head has taken over', 'FENCED')
  }

  override async claim(epoch: number): Promise<void> {
    if (this.fenced) {
      this.fenced = false
      this.known!.offline('offline', 'connecting')
      setTimeout(() => this.announce(), 5)
    }
    await super.claim(epoch)
  }
}

describe('a leg with parts', () => {
  it('of which a newer head has one stops the older, which an operator brings back', async () => {
    const parts = [0, 1, 2, 3].map(() => new Part(new Disk(4 * MiB)))
    const device = (at: number): Device => new Device(`m/${at}`, parts[at]!, systemClock)
    const leg = (name: string, first: number) => {
      const linear = new LinearDriver([device(first), device(first + 1)])
      return { name, device: new Device(`m/${name}`, linear, systemClock), readLast: false }
    }
    const driver = new MirrorDriver({
      legs: [leg('a', 0), leg('b', 2)],
      clock: systemClock,
      random: new SeededRandom(3),
      log: silentLog,
      store: new MemoryStore(),
      key: 'm',
      settings: quick,
    })
    const mirror = new Device('m', driver, systemClock)
    await mirror.open()
    await write(mirror, 0, pattern(1))
    for (const part of [parts[1]!, parts[3]!]) part.fence()
    await until('it has failed', () => mirror.state.word === 'failed')
    expect(mirror.state.reason).to.equal('a newer head has taken over')
    const { code, message } = await driver.startVolume({}).then(
      () => ({ code: 'done', message: '' }),
      (error: unknown) => error as { code: string; message: string },
    )
    expect([code, mirror.usable]).to.deep.equal(['CONFIG', false])
    expect(message).to.include('--force')
    await driver.startVolume({ force: true }).catch(() => undefined)
    await until('it runs', () => mirror.usable)
    await write(mirror, 0, pattern(2))
    await mirror.close()
  })
})
