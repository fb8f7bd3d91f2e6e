import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { Address } from '../../src/net/address.ts'
import { flush, write } from '../support/io.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { remote, Target } from '../wire/rig.ts'
import { pattern, until } from './head.ts'

/** A head over two remotes, with the settings of an operator who wrote none but one. */
function headOver(a: Address, b: Address): { device: Device; driver: MirrorDriver } {
  const legs = [
    { name: 'a', device: remote(a, 'disk') },
    { name: 'b', device: remote(b, 'disk') },
  ]
  const driver = new MirrorDriver({
    legs,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    store: new MemoryStore(),
    key: 'm',
    settings: { legRetryMsMax: 500 },
  })
  return { driver, device: new Device('m', driver, systemClock) }
}

describe('a head over remotes that waits for one it cannot reach', () => {
  it('leaves another one alone that goes on without that leg', async () => {
    const [a, b] = [new Target(), new Target()]
    for (const target of [a, b]) {
      await target.start()
      await target.addMemory('disk', 8 * MiB)
    }
    const first = headOver(a.unix, b.unix)
    await first.device.open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    // The second has no way to b: nobody listens there.
    const second = headOver(a.unix, { kind: 'unix', path: '/nonexistent/dst.sock' })
    await second.device.open()
    const reasonOf = (): string => String(second.driver.describe()['reason'])
    await until('the second waits', () => reasonOf().includes('could be newer'))
    await b.kill()
    await write(first.device, 0, pattern(2))
    await until('b has left', () => first.device.state.reason.includes('b is'))
    await until('it sees that the other is at work', () => reasonOf().includes('may serve'))
    expect(first.device.state.word).to.equal('degraded')
    await Promise.all([first.device.close(), second.device.close()])
    await Promise.all([a.stop(), b.stop()])
  })
})
