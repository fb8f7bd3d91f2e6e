import { MiB } from '../../src/base/size.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Device } from '../../src/device/device.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { flush, write } from '../support/io.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { remote, Target } from '../wire/rig.ts'
import { pattern, until } from './head.ts'

describe('a detached leg on a remote', () => {
  it('is given up also if its target restarts just then', async () => {
    const [a, b] = [new Target(), new Target()]
    for (const target of [a, b]) {
      await target.start()
      await target.addMemory('disk', 8 * MiB)
    }
    const legs = [
      { name: 'a', device: remote(a.unix, 'disk') },
      { name: 'b', device: remote(b.unix, 'disk') },
    ]
    const context = { clock: systemClock, random: systemRandom, log: silentLog }
    const driver = new MirrorDriver({ legs, ...context, store: new MemoryStore(), key: 'm' })
    const device = new Device('m', driver, systemClock)
    await device.open()
    await write(device, 0, pattern(1))
    await flush(device)
    const remoteB = legs[1]!.device.driver
    const claim = remoteB.claim!.bind(remoteB)
    let restarts = 0
    remoteB.claim = async (epoch) => {
      if (epoch === 0 && restarts++ === 0) await b.kill()
      await claim(epoch)
    }
    await driver.detachLeg('b')
    await b.start()
    // Negative, as what was given up.
    const isFree = async (): Promise<boolean> =>
      Object.values(JSON.parse((await b.store.load('target.claims'))!) as object)[0]! < 0
    let free = false
    await until('it is given up', () => {
      void isFree().then((is) => (free = is))
      return free
    })
    await device.close()
    await Promise.all([a.stop(), b.stop()])
  })
})
