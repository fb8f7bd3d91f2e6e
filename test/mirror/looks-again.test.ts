import { expect } from 'chai'
import { write } from '../support/io.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'
import { put, reads } from './putting-back.ts'

/** Retries are frequent here: a head that looks again at all has done so long before this ends. */
const whileMs = 1000

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
})
