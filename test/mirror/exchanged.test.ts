import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, read, write } from '../support/io.ts'
import { Disk } from './disk.ts'
import { disks, Head, HeldStore, later, MemoryStore, outcome, pattern } from './head.ts'
import { reads } from './putting-back.ts'

type Asked = Pick<Disk['log'][number], 'operation' | 'offset'>

/** Another disk is where this one was, with other data. */
function exchange(disk: Disk, data: Uint8Array = Buffer.alloc(disk.size, 9)): void {
  disk.cached = Buffer.from(data)
  disk.stable = Buffer.from(data)
  disk.identity = new Disk(MiB).identity
  disk.comeBack()
}

describe('a leg that is exchanged for another device', () => {
  it('while the volume starts is not taken for what it was', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    const { size } = first.device.facts!
    await first.device.close()
    const { a, b } = legs
    a!.hold = ({ operation, offset }) => operation === Operation.read && offset === size
    const second = new Head(legs, store)
    const opening = second.open()
    await second.until('the log of a is read', () => second.leg('a')['pending'] === 1)
    await second.until('b has been read', () => second.leg('b')['pending'] === 0)
    await later(5)
    exchange(b!)
    a!.letGo()
    await opening
    await second.until('it runs', () => second.device.usable)
    expect(second.state('b')).not.to.equal('in-sync')
    expect(b!.cached[size - 4096]).to.equal(9)
    await second.device.close()
  })

  for (const alone of [false, true])
    it(`while it is claimed at a start is not taken for what it was, alone: ${alone}`, async () => {
      const legs = disks('a', 'b')
      const a = legs['a']!
      const store = new MemoryStore()
      const first = await new Head(legs, store).open()
      await first.inSync('a', 'b')
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      const older = Buffer.from(a.cached)
      await write(first.device, 0, pattern(2))
      await flush(first.device)
      first.kill()
      const second = new Head(legs, store, {}, alone ? ['b'] : [])
      a.onClaim = () => {
        a.onClaim = () => Promise.resolve()
        exchange(a, older)
        return Promise.resolve()
      }
      await second.open()
      // Of two legs b is the one that has all; alone, a is not what the record speaks of.
      const waits = (): boolean =>
        String(second.driver.describe()['reason']).includes('another device')
      await second.until('it is decided', () => second.device.usable || (alone && waits()))
      const found = second.device.usable ? (await read(second.device, 0, 4096))[0] : 'nothing'
      expect(found).to.equal(alone ? 'nothing' : 2)
    })

  it('while it is claimed to come back is claimed anew', async () => {
    const legs = disks('a', 'b')
    const b = legs['b']!
    const head = await new Head(legs, new MemoryStore()).open()
    await head.inSync('a', 'b')
    b.goAway()
    await write(head.device, 0, pattern(1))
    const before = b.claims.length
    b.onClaim = () => {
      b.onClaim = () => Promise.resolve()
      exchange(b, b.cached)
      return Promise.resolve()
    }
    b.comeBack()
    await head.inSync('a', 'b')
    expect(b.claims.length - before).to.equal(2)
    expect(head.lastResync('b')!.kind).to.equal('full')
  })

  it('while a volume is made of blank legs is not taken for blank', async () => {
    const legs = disks('a', 'b')
    const [a, b] = [legs['a']!, legs['b']!]
    for (const disk of [a, b]) disk.tellsZeroes = false
    const isFirst = ({ operation, offset }: Asked): boolean =>
      operation === Operation.read && offset === 0
    a.hold = isFirst
    const head = new Head(legs, new MemoryStore())
    // As an NBD server, it says neither who has it nor whether it was changed.
    for (const method of ['claim', 'claimed', 'stamp'])
      Object.defineProperty(head.legs.get('b')!.driver, method, { value: undefined })
    const opening = head.open()
    await head.until('b was looked through', () => b.log.some(isFirst))
    await later(5)
    exchange(b)
    b.cached.fill(0, b.size / 2)
    a.letGo()
    a.hold = () => false
    await opening
    await head.inSync('a', 'b')
    await reads(head, 9)
    await head.device.close()
  })

  it('while it is attached is not taken for what it was', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    const open = store.shut()
    const { asked } = store
    const attaching = outcome(head.driver.attachLeg('b'))
    await head.until('it is made durable', () => store.asked > asked)
    exchange(legs['b']!)
    open()
    expect(await attaching).to.equal('UNAVAILABLE')
    await later(50)
    expect(head.state('b')).to.equal('detached')
    expect(legs['b']!.cached.every((byte) => byte === 9)).to.equal(true)
    await head.device.close()
  })

  it('while it is exported is not written to', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store).open()
    await head.driver.detachLeg('b')
    const open = store.shut()
    const { asked } = store
    const exporting = outcome(head.driver.exportLeg('b'))
    await head.until('it is made durable', () => store.asked > asked)
    exchange(legs['b']!)
    open()
    expect(await exporting).to.equal('UNAVAILABLE')
    expect(legs['b']!.cached.every((byte) => byte === 9)).to.equal(true)
    await head.device.close()
  })
})
