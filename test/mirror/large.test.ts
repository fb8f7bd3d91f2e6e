import { expect } from 'chai'
import { Bitmap } from '../../src/base/bitmap.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { GiB, MiB, TiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { decodeMap, encodePage, extentCount, mapBytes, pageBytes } from '../../src/mirror/layout.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { MirrorSettings } from '../../src/mirror/settings.ts'
import { read, write } from '../support/io.ts'
import { extentSize, pattern } from './head.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const random = new SeededRandom(11)

/** Two memories, which outlive the mirrors over them. */
class Memories {
  private readonly drivers: MemoryDriver[]
  private readonly store = new MemoryStore()

  constructor(size: number) {
    this.drivers = [0, 1].map(() => new MemoryDriver(size, random))
  }

  async open(settings: Partial<MirrorSettings>): Promise<[Device, MirrorDriver]> {
    const legs = this.drivers.map((driver, at) => ({
      name: `leg${at}`,
      device: new Device(`m/leg${at}`, driver, systemClock),
    }))
    const driver = new MirrorDriver({
      legs,
      clock: systemClock,
      random,
      log: silentLog,
      store: this.store,
      key: 'm',
      settings: { extentSize, ...settings },
    })
    const device = new Device('m', driver, systemClock)
    await device.open()
    return [device, driver]
  }
}

describe('a large volume', () => {
  it('takes writes when the whole log is left from a crash', async function () {
    const memories = new Memories(16 * GiB)
    const [first] = await memories.open({ intentLog: false })
    await write(first, 0, pattern(1))
    // Nobody closes it: every extent is in the log.
    const [second] = await memories.open({ hotExtentsMax: 64 })
    for (let at = 1; at < 200; at++) await write(second, at * extentSize - 2048, pattern(2))
    expect((await read(second, extentSize, 2048))[0]).to.equal(2)
    await second.close()
  })

  // Ten seconds and more before, for each map of each leg, in which the process did nothing else:
  // processor time, which a busy machine does not lengthen.
  it('has its maps read in the time that their size takes', () => {
    const geometry = { dataSize: 16 * TiB, extentSize: MiB, slots: 16 }
    const bits = new Bitmap(extentCount(geometry))
    const bytes = Buffer.alloc(mapBytes(geometry))
    bits.set(bits.length - 1)
    for (let page = 0; page < bytes.length / pageBytes; page++)
      encodePage(bits, 3, page, bytes.subarray(page * pageBytes, (page + 1) * pageBytes))
    const decoded = new Bitmap(bits.length)
    const before = process.cpuUsage()
    expect(decodeMap(bytes, 3, decoded)).to.equal(0)
    expect(process.cpuUsage(before).user).to.be.below(5_000_000)
    expect([decoded.count, decoded.next(0)]).to.deep.equal([1, bits.length - 1])
  })
})

describe('a crowd of writes', () => {
  it('is admitted to the log while legs answer at once', async () => {
    const memories = new Memories(64 * MiB)
    const [device] = await memories.open({ hotExtentsMax: 4 })
    const across = (extent: number): Promise<void> =>
      write(device, extent * extentSize - 2048, pattern(1))
    for (let round = 0; round < 20; round++) {
      const writes: Promise<void>[] = []
      for (let at = 1; at < 40; at++) writes.push(across(at), across(1 + (at % 3)))
      await Promise.all(writes)
    }
    await device.close()
  })
})
