import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { metadataBytes, slotsFor } from '../../src/mirror/layout.ts'
import { disks, extentSize, Head, MemoryStore } from './head.ts'
import { copyOf, logEmpty, put, quickLog, reads } from './putting-back.ts'

const once = 8 * MiB
/** From there the metadata are that were moved. */
const moved = once - metadataBytes({ dataSize: once, extentSize, slots: slotsFor(2) })

describe('a leg that leaves while the metadata of another are moved', () => {
  it('is not taken for whole where it was put back', async () => {
    const legs = disks('a', 'b')
    const [a, b] = [legs['a']!, legs['b']!]
    for (const disk of [a, b]) disk.restarts = 0
    const head = await new Head(legs, new MemoryStore(), quickLog).open()
    await put(head, 1)
    await logEmpty(head)
    const back = copyOf(b)
    await put(head, 2)
    await logEmpty(head)
    let held = false
    a.hold = ({ operation, offset }) => {
      const holds = operation === Operation.write && offset >= moved
      held ||= holds
      return holds
    }
    for (const disk of [a, b]) disk.grow(once)
    await head.until('the metadata of a are about to be moved', () => held)
    back()
    b.restarts!++
    b.restart()
    await head.until('b has left', () => head.state('b') !== 'in-sync')
    a.letGo()
    a.hold = () => false
    await head.inSync('a', 'b')
    await reads(head, 2)
    expect(head.lastResync('b')).to.include({ kind: 'full' })
    await head.device.close()
  })
})
