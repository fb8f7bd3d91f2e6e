import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { MemoryStore } from '../../src/base/store.ts'
import { Device } from '../../src/device/device.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { read, write } from '../support/io.ts'
import { Proxy } from '../support/proxy.ts'
import { reaches, remote, Target } from './rig.ts'

const fill = (byte: number): Buffer => Buffer.alloc(4 * KiB, byte)

/** A mirror of remotes, as its machine would have it. */
class Head {
  readonly driver: MirrorDriver
  readonly device: Device
  readonly legs: readonly Device[]
  private readonly store = new MemoryStore()
  private readonly number: number

  /** `number` tells it from other heads that have seen the same generation. */
  constructor(number: number, legs: Readonly<Record<string, Device>>) {
    this.number = number
    this.legs = Object.values(legs)
    this.driver = new MirrorDriver({
      legs: Object.entries(legs).map(([name, device]) => ({ name, device })),
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      store: this.store,
      key: 'm',
      settings: { extentSize: 64 * KiB, suspendMs: 100 },
    })
    this.device = new Device('m', this.driver, systemClock)
  }

  async open(): Promise<this> {
    await this.store.save('m_head', `${this.number}`)
    for (const leg of this.legs) await leg.open()
    await this.device.open()
    return this
  }

  async close(): Promise<void> {
    await this.device.close()
    for (const leg of this.legs) await leg.close()
  }
}

describe('a head that was cut off all the while', () => {
  it('does not write to what another volume has by now', async () => {
    const target = new Target()
    await target.addMemory('a', 4 * MiB)
    await target.addMemory('b', 4 * MiB)
    await target.start()
    const proxy = await Proxy.start({ port: target.port })
    const address = { kind: 'tcp', host: '127.0.0.1', port: proxy.port } as const
    const older = await new Head(1000, { a: remote(address, 'a'), b: remote(address, 'b') }).open()
    await write(older.device, 0, fill(1))
    proxy.freeze()
    const ghost = write(older.device, 0, fill(9)).then(
      () => 'done',
      (error: unknown) => (error as { code: string }).code,
    )
    const newer = await new Head(2000, {
      a: remote(target.tcp, 'a'),
      b: remote(target.tcp, 'b'),
    }).open()
    await reaches(newer.device, ({ state }) => state.word === 'online')
    await newer.driver.exportLeg('b')
    const other = await new Head(1, { b: remote(target.tcp, 'b') }).open()
    await write(other.device, 0, fill(2))
    proxy.cut()
    proxy.thaw()
    await reaches(older.legs[1]!, ({ state }) => state.word === 'failed')
    expect(await ghost).to.equal('FENCED')
    expect((await read(other.device, 0, 4 * KiB)).equals(fill(2))).to.equal(true)
    await write(other.device, 0, fill(3))
    for (const head of [older, newer, other]) await head.close()
    await proxy.close()
    await target.stop()
  })
})
