import { expect } from 'chai'
import { Flag, Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { choose, decodeSlot, encodeSuperblock, type Found } from '../../src/mirror/superblock.ts'
import { write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, MemoryStore, pattern } from './head.ts'
import { copyOf, logEmpty, marked, put, quickLog, reads, type Legs } from './putting-back.ts'

/** The head's file of marks is lost, or was never written. */
function withoutMarks(store: MemoryStore): MemoryStore {
  const load = store.load.bind(store)
  store.load = (key) => (key === 'm_marks' ? Promise.resolve(null) : load(key))
  return store
}

describe('what a head knows of the marks of its legs', () => {
  /** Ones are on a copy of the leg, twos on the leg, in one generation. */
  async function ran(legs: Legs, store: MemoryStore, copied: Disk): Promise<() => void> {
    const head = await new Head(legs, store, quickLog).open()
    await put(head, 1)
    await marked(head, copied)
    const back = copyOf(copied)
    for (let turn = 0; turn < 6; turn++) {
      await put(head, 2)
      await Promise.all(Object.values(legs).map((disk) => marked(head, disk)))
    }
    await logEmpty(head)
    await head.device.close()
    return back
  }

  it('counts also where its record is of a generation that no leg has yet', async () => {
    const legs = disks('a')
    const [a] = Object.values(legs)
    const store = new MemoryStore()
    const back = await ran(legs, store, a!)
    let superblocks = 0
    a!.hold = ({ operation, offset }) => {
      const isHeld = operation === Operation.write && offset >= superblockOffset(a!.size, 0)
      if (isHeld) superblocks++
      return isHeld
    }
    const dies = new Head(legs, store)
    void dies.open()
    await dies.until('the record is saved', () => superblocks > 0)
    dies.kill()
    a!.hold = () => false
    back()
    const head = await new Head(legs, withoutMarks(store)).open()
    await head.until('it waits', () => {
      return String(head.driver.describe()['reason']).includes('a was put back to an older state')
    })
    await head.device.close()
  })

  it('counts where the superblock of a later generation is all that arrived since', async () => {
    const legs = disks('a')
    const [a] = Object.values(legs)
    const store = new MemoryStore()
    const back = await ran(legs, store, a!)
    const slotAt = (slot: number): number => superblockOffset(a!.size, slot)
    const found = [0, 1].map((slot) => decodeSlot(a!.stable.subarray(slotAt(slot))))
    const newest = choose(found[0]!, found[1]!) as Extract<Found, { kind: 'superblock' }>
    back()
    // Whoever was between the head and the leg had it still.
    const { serial, self, record } = newest.superblock
    const { generation, history } = record
    const next = {
      ...record,
      generation: { counter: generation.counter + 1, id: 'f'.repeat(16) },
      history: [generation, ...history],
    }
    await store.save('m', JSON.stringify(next))
    for (const buffer of [a!.cached, a!.stable])
      encodeSuperblock({ serial: serial + 1, self, record: next })!.copy(buffer, slotAt(0))
    const head = await new Head(legs, withoutMarks(store)).open()
    await head.until('it waits', () => {
      return String(head.driver.describe()['reason']).includes('a was put back to an older state')
    })
    await head.device.close()
  })

  it('is no false alarm where another head took the leg as it was', async () => {
    const legs = disks('a')
    const store = new MemoryStore()
    const back = await ran(legs, store, legs['a']!)
    back()
    const other = await new Head(legs, new MemoryStore()).open()
    await other.inSync('a')
    await put(other, 3)
    await other.device.close()
    const head = await new Head(legs, store).open()
    await head.inSync('a')
    await reads(head, 3)
    await head.device.close()
  })

  it('comes from the other leg as well, of one that is away when it starts', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store, quickLog).open()
    await put(first, 1)
    await marked(first, legs['b']!)
    const back = copyOf(legs['b']!)
    for (let turn = 0; turn < 6; turn++) {
      await put(first, 2)
      await Promise.all(Object.values(legs).map((disk) => marked(first, disk)))
    }
    await logEmpty(first)
    first.kill()
    back()
    const head = await new Head(legs, withoutMarks(store), {}, ['b']).open()
    await head.inSync('a')
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    expect(head.lastResync('b')!.cause).to.include('put back to an older state')
    await head.device.close()
    expect(legs['b']!.cached[0]).to.equal(2)
  })

  it('is renewed though clients only force their writes, and never flush', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    // As where extents never leave the log, because they are written to all the time.
    const head = await new Head(legs, store, { ...quickLog, intentLog: false }).open()
    const forced = async (byte: number): Promise<void> => {
      const at = legs['a']!.log.length
      await write(head.device, 0, pattern(byte), Flag.fua)
      await marked(head, legs['a']!, at)
    }
    await forced(1)
    const back = copyOf(legs['a']!)
    await forced(2)
    await forced(2)
    head.kill()
    back()
    const next = await new Head(legs, store).open()
    await next.inSync('a', 'b')
    expect(next.lastResync('a')!.cause).to.include('put back to an older state')
    await reads(next, 2)
    await next.device.close()
  })
})
