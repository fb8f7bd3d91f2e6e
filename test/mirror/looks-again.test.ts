import { assert, expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { write } from '../support/io.ts'
import { Disk, DiskDriver } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'
import { copyOf, put, reads } from './putting-back.ts'

/** Retries are frequent here: a head that looks again at all has done so long before this ends. */
const whileMs = 1000

function driverOf(head: Head, name: string): DiskDriver {
  const { driver } = head.legs.get(name)!
  assert(driver instanceof DiskDriver)
  return driver
}

function waitsFor(head: Head, text: string): Promise<void> {
  return head.until(`it waits: ${text}`, () =>
    String(head.driver.describe()['reason']).includes(text),
  )
}

describe('a head that waits while another one is at work', () => {
  it('starts when a leg it waited for left, by what the other head made durable', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await put(first, 1)
    await first.inSync('a', 'b')
    const head = await new Head(legs, null, {}, ['a']).open()
    await waitsFor(head, 'could be newer')
    for (const driver of legs['a']!.drivers)
      if (head.legs.get('a')!.driver !== driver) driver.goAway()
    await write(first.device, 0, pattern(2))
    await put(first, 3)
    await first.device.close()
    await later(whileMs)
    expect(head.driver.describe()['reason'], 'b alone is in sync, and says so').to.equal('')
    await reads(head, 3)
    await head.device.close()
  })

  it('starts when the split it saw was settled by the other', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, null).open()
    await put(first, 1)
    await first.device.close()
    for (const [away, byte] of [
      ['a', 2],
      ['b', 3],
    ] as const) {
      const half = await new Head(legs, null, {}, [away]).open()
      await half.driver.startVolume({ force: true })
      await put(half, byte)
      half.kill()
    }
    const head = await new Head(legs, null).open()
    await waitsFor(head, 'split brain')
    const other = await new Head(legs, new MemoryStore()).open()
    await other.driver.startVolume({ force: true, leg: 'a' })
    await other.driver.attachLeg('b', { discard: true })
    await other.inSync('a', 'b')
    await other.device.close()
    await later(whileMs)
    expect(head.driver.describe()['reason'], 'both are in sync, and say so').to.equal('')
    await reads(head, 3)
    await head.device.close()
  })

  for (const fencing of ['told', 'none'] as const)
    for (const meanwhile of ['nothing happens', 'its link fails again', 'another leg is illegible'])
      it(`leaves it alone when it goes on without a leg: ${fencing}, ${meanwhile}`, async () => {
        const legs = disks('a', 'b', 'c')
        const head = new Head(legs, null, {}, ['a', 'b', 'c'])
        const first = new Head(legs, new MemoryStore())
        if (fencing === 'none')
          for (const one of [head, first])
            for (const { driver } of one.legs.values())
              Object.assign(driver, { claim: undefined, claimed: undefined })
        await head.open()
        await first.open()
        await put(first, 1)
        await first.inSync('a', 'b', 'c')
        driverOf(first, 'c').goAway()
        await first.until('c has left', () => first.state('c') === 'missing')
        driverOf(head, 'a').announce()
        await waitsFor(head, 'could be newer')
        if (fencing === 'told')
          legs['a']!.onClaimed = () => {
            driverOf(first, 'a').fence()
            return Promise.resolve()
          }
        if (meanwhile === 'another leg is illegible') {
          legs['c']!.fault = ({ operation }) =>
            operation === Operation.read ? new StorageError('IO', 'bad disk') : null
          driverOf(head, 'c').announce()
        }
        const fails = (): void => {
          driverOf(head, 'b').goAway()
          head.clock.timer(20, fails)
        }
        if (meanwhile === 'its link fails again') fails()
        await write(first.device, 0, pattern(2))
        driverOf(first, 'b').goAway()
        await first.until('b has left', () => first.state('b') === 'missing')
        await waitsFor(head, '`dst volume start m` starts this one')
        await put(first, 3)
        await reads(first, 3)
        legs['a']!.onClaimed = () => Promise.resolve()
        first.kill()
        // An operator knows that the other is dead; nothing else tells.
        await head.driver.startVolume()
        await reads(head, 3)
        await head.device.close()
      })

  it('sees that the other has made the volume which it waits to make', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, null, {}, ['b']).open()
    await waitsFor(head, 'a new volume is created')
    const other = await new Head(legs, new MemoryStore(), {}, ['b']).open()
    await other.driver.startVolume({ force: true })
    await put(other, 1)
    await other.device.close()
    await head.until('it starts', () => head.device.usable)
    await reads(head, 1)
    await head.device.close()
  })
})

describe('a head that waits for a leg that was wiped', () => {
  it('starts when it is put right in its place: no other head has had it', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await put(first, 1)
    await first.inSync('a', 'b')
    first.kill()
    const b = legs['b']!
    const putRight = copyOf(b)
    b.cached.fill(0)
    b.stable.fill(0)
    const head = await new Head(legs, null, { legTimeoutMs: 50 }).open()
    await waitsFor(head, 'b is blank')
    await later(100)
    putRight()
    await head.until('it starts', () => head.device.usable)
    await reads(head, 1)
    await head.device.close()
  })
})

describe('a head that waits for a leg, having looked through another', () => {
  it('does not read the whole of it again and again', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, null).open()
    await put(first, 1)
    await first.device.close()
    const a = legs['a']!
    const blank = new Disk(16 * MiB)
    a.grow(blank.size)
    for (const disk of [a, blank]) disk.tellsZeroes = false
    const head = await new Head({ a, b: blank }, null).open()
    await waitsFor(head, 'waiting for')
    await later(whileMs)
    const read = blank.log.filter(({ operation }) => operation === Operation.read)
    const bytes = read.reduce((sum, { length }) => sum + length, 0)
    expect(bytes).to.be.below(2 * blank.size)
    await head.device.close()
  })
})
