import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { read, write } from '../support/io.ts'
import { Proxy } from '../support/proxy.ts'
import { reaches, remote, Target } from './rig.ts'
import { MemoryStore } from '../support/memory-store.ts'

const fill = (byte: number): Buffer => Buffer.alloc(4 * KiB, byte)

/** A mirror of remotes, as its machine would have it. */
class Head {
  readonly driver: MirrorDriver
  readonly device: Device
  readonly legs: readonly Device[]
  /** The mirror that is its leg. */
  below: Head | null = null
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
    for (const head of this.below === null ? [this] : [this, this.below])
      await head.store.save('m_head', `${head.number}`)
    await this.device.open()
    return this
  }

  async close(): Promise<void> {
    await this.device.close()
  }
}

describe('two heads that run from one configuration', () => {
  let target: Target
  let older: Head
  let newer: Head

  /** Reads again and again, also what fails; the bytes of each read that began, and when. */
  async function readAlways(device: Device, over: () => boolean) {
    const reads: { began: number; byte: number | string }[] = []
    while (!over()) {
      const began = performance.now()
      const byte = await read(device, 0, 4 * KiB).then(
        (bytes) => bytes[0]!,
        (error: unknown) => (error as { code: string }).code,
      )
      reads.push({ began, byte })
      await new Promise(setImmediate)
    }
    return reads
  }

  beforeEach(async () => {
    target = new Target()
    await target.addMemory('a', 4 * MiB)
    await target.addMemory('b', 4 * MiB)
    await target.start()
  })

  afterEach(async () => {
    await older.close()
    await newer.close()
    await target.stop()
  })

  const both = () => ({ a: remote(target.tcp, 'a'), b: remote(target.tcp, 'b') })

  it('never read old data from the older one once the newer one serves', async () => {
    older = await new Head(1, both()).open()
    await write(older.device, 0, fill(1))
    let over = false
    const reading = readAlways(older.device, () => over)
    newer = await new Head(2, both()).open()
    await reaches(newer.device, ({ state }) => state.word === 'online')
    await write(newer.device, 0, fill(2))
    const written = performance.now()
    await reaches(older.device, ({ state }) => state.word === 'failed')
    expect(performance.now() - written).to.be.lessThan(30_000)
    expect(older.device.state).to.include({ code: 'FENCED', reason: 'a newer head has taken over' })
    over = true
    const reads = await reading
    expect(reads.some(({ byte }) => byte === 1)).to.equal(true)
    expect(reads.filter(({ began, byte }) => began > written && byte === 1)).to.deep.equal([])
    expect(reads.at(-1)!.byte).to.equal('FENCED')
  })

  it('stop the older one also where it has nothing to do', async () => {
    older = await new Head(1, both()).open()
    newer = await new Head(2, both()).open()
    await reaches(older.device, ({ state }) => state.word === 'failed')
    const problem = await older.driver.startVolume().catch((error: unknown) => error)
    expect((problem as Error).message).to.include('--force')
    expect(newer.device.usable).to.equal(true)
    // It waits for the legs that had turned it away, and says nothing before.
    await older.driver.startVolume({ force: true })
    await reaches(older.device, ({ state }) => state.word === 'online')
    await reaches(newer.device, ({ state }) => state.word === 'failed')
  })

  it('have the older one go on from what the newer one wrote, by an operator', async () => {
    const proxy = await Proxy.start({ port: target.port })
    const slow = { kind: 'tcp', host: '127.0.0.1', port: proxy.port } as const
    older = await new Head(1, { a: remote(target.tcp, 'a'), b: remote(slow, 'b') }).open()
    await write(older.device, 0, fill(1))
    newer = await new Head(2, both()).open()
    await reaches(older.device, ({ state }) => state.word === 'failed')
    for (const leg of older.legs) await reaches(leg, ({ state }) => state.word === 'failed')
    await reaches(newer.device, () => {
      const legs = newer.driver.describe()['legs'] as Record<string, { state: string }>
      return Object.values(legs).every(({ state }) => state === 'in-sync')
    })
    await newer.driver.detachLeg('a')
    await write(newer.device, 0, fill(2))
    await newer.close()
    proxy.freeze()
    const starting = older.driver.startVolume({ force: true })
    await reaches(older.legs[0]!, (leg) => leg.usable)
    // Time enough to start from the leg that is there.
    for (let turn = 0; turn < 100; turn++) await read(older.legs[0]!, 0, 4 * KiB)
    proxy.thaw()
    await starting
    expect((await read(older.device, 0, 4 * KiB))[0]).to.equal(2)
    await older.close()
    await proxy.close()
  })

  it('stop the older one where the mirror is a leg of another mirror', async () => {
    const nested = async (number: number) => {
      const inner = new Head(number, both())
      const outer = new Head(number, { inner: inner.device })
      outer.below = inner
      return await outer.open()
    }
    older = await nested(1)
    await reaches(older.device, ({ state }) => state.word === 'online')
    await write(older.device, 0, fill(1))
    newer = await nested(2)
    await reaches(newer.device, ({ state }) => state.word === 'online')
    await reaches(older.device, ({ state }) => state.word === 'failed')
    expect(older.device.state.code).to.equal('FENCED')
  })
})

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
