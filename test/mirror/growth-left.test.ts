import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import {
  metadataBytes,
  slotsFor,
  superblockBytes,
  superblockOffset,
} from '../../src/mirror/layout.ts'
import { choose, decodeSlot } from '../../src/mirror/superblock.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, later, MemoryStore, pattern } from './head.ts'
import { logEmpty, put, quickLog } from './putting-back.ts'

const once = 8 * MiB
/** From there the metadata are that were moved. */
const moved = once - metadataBytes({ dataSize: once, extentSize, slots: slotsFor(2) })

/** What the disk says of the leg of that name. */
function saidBy({ size, cached }: Disk, name: string): string {
  const slots = [0, 1].map((slot) => superblockOffset(size, slot))
  const [first, second] = slots.map((at) => decodeSlot(cached.subarray(at, at + superblockBytes)))
  const found = choose(first!, second!)
  if (found.kind !== 'superblock') return found.kind
  return found.superblock.record.members.find((member) => member.name === name)!.state
}

describe('a leg that leaves while the metadata of another are moved', () => {
  it('is told to be out by no leg before the own record of the head says so', async () => {
    const legs = disks('a', 'b')
    const [a, b] = [legs['a']!, legs['b']!]
    const store = new MemoryStore()
    const first = await new Head(legs, store, quickLog).open()
    await put(first, 1)
    await logEmpty(first)
    let held = false
    a.hold = ({ operation, offset }) => {
      const holds = operation === Operation.write && offset >= moved
      held ||= holds
      return holds
    }
    for (const disk of [a, b]) disk.grow(once)
    await first.until('the metadata of a are about to be moved', () => held)
    // The state directory does not answer from here on, and the head dies before it does.
    const save = store.save.bind(store)
    store.save = (key, text) => (key === 'm' ? new Promise<void>(() => undefined) : save(key, text))
    b.goAway()
    await first.until('b has left', () => first.state('b') === 'missing')
    a.letGo()
    a.hold = () => false
    await later(100)
    const told = saidBy(a, 'b')
    first.kill()
    store.save = save

    // Another head, on another machine, that reaches a alone.
    const second = await new Head(legs, new MemoryStore(), quickLog, ['b']).open()
    await later(100)
    const went = second.device.usable
    if (went) {
      await write(second.device, 0, pattern(2))
      await flush(second.device)
    }
    second.kill()

    // The first one again, that reaches b alone.
    const third = await new Head(legs, store, quickLog, ['a']).open()
    await third.until('it serves', () => third.device.usable)
    const found = (await read(third.device, 0, 4096))[0]
    third.kill()
    expect({ told, went, found }).to.deep.equal({ told: 'in-sync', went: false, found: 1 })
  })
})
