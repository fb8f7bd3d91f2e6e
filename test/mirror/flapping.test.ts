import { expect } from 'chai'
import { historyGenerationsMax } from '../../src/mirror/record.ts'
import { read, write } from '../support/io.ts'
import { disks, extentSize, Head, MemoryStore, pattern } from './head.ts'

/** More than a volume remembers generations, each of which is one more. */
const flaps = historyGenerationsMax + 6

describe('a leg whose connection breaks again and again', () => {
  it('if it is the last one, costs the leg that is away nothing but what it missed', async () => {
    const legs = disks('a', 'b')
    const [a, b] = [legs['a']!, legs['b']!]
    a.restarts = 0
    const head = await new Head(legs, new MemoryStore(), { legRetryMs: 1 }).open()
    await write(head.device, 0, pattern(1))
    await head.inSync('a', 'b')
    b.goAway()
    await head.until('b is away', () => head.state('b') === 'missing')
    const generation = (): number => Number(head.driver.describe()['generation'])
    const before = generation()
    for (let flap = 0; flap < flaps; flap++) {
      const last = generation()
      a.restarts++
      // As the client of an NBD server takes each reconnect.
      a.restart()
      await head.until('it runs again', () => generation() > last && head.state('a') === 'in-sync')
      await write(head.device, extentSize, pattern(flap))
    }
    expect(generation() - before).to.be.within(flaps, 2 * flaps)
    b.comeBack()
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'partial' })
    expect((await read(head.device, extentSize, 4096))[0]).to.equal(flaps - 1)
    await head.device.close()
    expect(b.cached[extentSize]).to.equal(flaps - 1)
  })
})
