import { expect } from 'chai'
import { Operation } from '../../src/device/request.ts'
import { flush, read, write } from '../support/io.ts'
import { disks, extentSize, failing, Head, HeldStore, later, outcome, pattern } from './head.ts'

const bad = 2 * extentSize

/** a alone is in sync, and fails one range more often than a leg may that is not the last. */
async function badDisk() {
  const legs = disks('a', 'b')
  const [a, b] = [legs['a']!, legs['b']!]
  const store = new HeldStore()
  const head = await new Head(legs, store, { legRetryMs: 1, legRetryMsMax: 2 }).open()
  await head.inSync('a', 'b')
  await write(head.device, bad, pattern(1))
  await flush(head.device)
  b.goAway()
  await head.until('b left', () => head.state('b') === 'missing')
  await write(head.device, 0, pattern(2))
  failing(a, (operation, offset) => operation === Operation.read && offset === bad)
  for (let times = 0; times < 70; times++)
    expect(await outcome(read(head.device, bad, 4096))).to.equal('IO')
  return { head, b, store }
}

describe('a read that the last leg cannot carry out', () => {
  it('does not send away a leg that is about to be in sync', async () => {
    const { head, b, store } = await badDisk()
    const open = store.shut()
    b.comeBack()
    await later(50)
    open()
    const { asked } = store
    await head.until('b is being filled or in sync', () => head.state('b') !== 'missing')
    const again = store.shut()
    await head.until('b is as good as in sync', () => {
      const { state, resync } = head.leg('b')
      return state === 'syncing' && resync === undefined && store.asked > asked
    })
    expect(await outcome(read(head.device, bad, 4096))).to.equal('IO')
    const { state, reason } = head.leg('b')
    again()
    expect({ state, reason }).to.deep.include({ state: 'syncing' })
  })

  it('is carried out by one that comes back, however often it is asked for', async () => {
    const { head, b } = await badDisk()
    let over = false
    const asking = Array.from({ length: 4 }, async () => {
      while (!over && (await outcome(read(head.device, bad, 4096))) !== 'done');
    })
    b.comeBack()
    await head.inSync('a', 'b')
    over = true
    await Promise.all(asking)
    expect((await read(head.device, bad, 4096)).equals(pattern(1))).to.equal(true)
  })
})
