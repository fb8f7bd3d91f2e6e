import { expect } from 'chai'
import { Operation } from '../../src/device/request.ts'
import { write } from '../support/io.ts'
import { disks, failing, Head, MemoryStore, pattern } from './head.ts'

const hintOf = (head: Head, leg: string) => String(head.leg(leg)['hint'])

describe('a leg that is not in sync', () => {
  it('says what to type when it failed', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    failing(legs['b']!, (operation) => operation === Operation.write)
    await write(head.device, 0, pattern(1))
    await head.until('it failed', () => head.state('b') === 'failed')
    expect(head.leg('b').reason).to.include('bad disk')
    expect(hintOf(head, 'b')).to.include('tried again by itself')
    expect(hintOf(head, 'b')).to.include('`dst leg attach m b --replace`')
    expect(hintOf(head, 'b')).to.include('`dst leg remove m b`')
    expect(hintOf(head, 'a')).to.equal('')
    await head.device.close()
  })

  it('says so when it is away, taken off or refused', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore()).open()
    legs['b']!.goAway()
    await head.until('it is away', () => head.state('b') === 'missing')
    expect(hintOf(head, 'b')).to.include('comes back by itself')
    await head.driver.detachLeg('c')
    expect(hintOf(head, 'c')).to.equal('`dst leg attach m c` puts it back')
    await head.device.close()
  })

  it('of a volume that waits is in its history, and status says how it starts', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, pattern(1))
    await first.device.close()
    const head = new Head(legs, new MemoryStore(), {}, ['b'])
    await head.open()
    expect(head.history().at(-1)!.text).to.match(/^it is waiting now: .*b/)
    expect(String(head.driver.describe()['hint'])).to.include('`dst volume start m`')
    // What commands on legs would be refused for now.
    expect(hintOf(head, 'b')).to.equal('it comes back by itself once it is there')
    await head.device.close()
  })

  it('of a new volume says how to name the one of several with data that counts', async () => {
    const legs = disks('a', 'b')
    for (const disk of Object.values(legs)) disk.cached.fill(1, 0, 4096)
    const head = await new Head(legs, new MemoryStore()).open()
    expect(String(head.driver.describe()['reason'])).to.include('such as "source": "a"')
    await head.device.close()
  })
})

describe('a leg that was full', () => {
  it('comes back by itself when there is room', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    failing(legs['b']!, (operation) => operation === Operation.write)
    await write(head.device, 0, pattern(1))
    await head.until('it failed', () => head.state('b') === 'failed')
    legs['b']!.fault = () => null
    await head.inSync('a', 'b')
    expect(legs['b']!.cached.subarray(0, 4096).equals(pattern(1))).to.equal(true)
    await head.device.close()
  })
})
