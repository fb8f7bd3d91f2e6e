import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation } from '../../src/device/request.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { read, submit, write } from '../support/io.ts'
import { PoorMemory } from '../support/poor-memory.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const random = new SeededRandom(5)

describe('a mirror whose legs zero in their own time', () => {
  it('has equal legs after writes that overlap zeroes under way', async () => {
    const poor = new PoorMemory(80 * MiB, random)
    const legs = [new MemoryDriver(80 * MiB, random), poor].map((driver, at) => ({
      name: `leg${at}`,
      device: new Device(`m/${at}`, driver, systemClock),
    }))
    const parts = { clock: systemClock, random, log: silentLog, store: new MemoryStore(), key: 'm' }
    const device = new Device('m', new MirrorDriver({ legs, ...parts }), systemClock)
    await device.open()
    await write(device, 0, Buffer.alloc(32 * MiB, 7))
    const zeroed = submit(device, Operation.writeZeroes, 100, 64 * MiB)
    const written: Promise<void>[] = []
    for (const at of [0, 20 * MiB, 40 * MiB, 64 * MiB])
      written.push(write(device, at, Buffer.alloc(4096, 1)))
    await new Promise(setImmediate)
    expect(poor.written, 'under way').to.be.below(96 * MiB)
    for (const at of [10 * MiB, 63 * MiB]) written.push(write(device, at, Buffer.alloc(MiB, 2)))
    expect((await zeroed).error).to.equal(null)
    await Promise.all(written)
    // The mirror lets writes that overlap wait for each other: what came later is what is there.
    const expected = Buffer.alloc(70 * MiB)
    expected.fill(7, 0, 100)
    for (const at of [0, 20 * MiB, 40 * MiB, 64 * MiB]) expected.fill(1, at, at + 4096)
    for (const at of [10 * MiB, 63 * MiB]) expected.fill(2, at, at + MiB)
    for (const leg of legs)
      expect((await read(leg.device, 0, 70 * MiB)).equals(expected), leg.name).to.equal(true)
    await device.close()
  })
})
