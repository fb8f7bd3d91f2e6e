import { expect } from 'chai'
import { Operation, type Request } from '../../src/device/request.ts'
import {
  superblockBytes,
  superblockOffset,
  metadataBytes,
  slotsFor,
} from '../../src/mirror/layout.ts'
import type { VolumeRecord } from '../../src/mirror/record.ts'
import { choose, decodeSlot } from '../../src/mirror/superblock.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, failing, Head, later, MemoryStore, outcome, pattern } from './head.ts'

function slotsOf({ size }: Disk): readonly number[] {
  return [superblockOffset(size, 0), superblockOffset(size, 1)]
}

/** The base that is about to be told to it. */
function baseIn(disk: Disk, { operation, offset, segments }: Request): number {
  if (operation !== Operation.write || !slotsOf(disk).includes(offset)) return 0
  const found = decodeSlot(Buffer.concat(segments))
  return found.kind === 'superblock' ? found.superblock.record.base.counter : 0
}

function baseShown(disk: Disk): number {
  const [first, second] = slotsOf(disk).map((at) =>
    decodeSlot(disk.cached.subarray(at, at + superblockBytes)),
  )
  const found = choose(first!, second!)
  return found.kind === 'superblock' ? found.superblock.record.base.counter : 0
}

async function valueOf(head: Head): Promise<unknown> {
  return (await read(head.device, 0, 4096))[0]
}

/** b joins a: it is told so, with the base, as is the own store, and a is about to be told. */
async function joining() {
  const legs = disks('a', 'b')
  const [a, b] = [legs['a']!, legs['b']!]
  const store = new MemoryStore()
  const make = (): Promise<Head> =>
    new Head(legs, store, { intentIdleMs: 60_000 }, [], ['a']).open()
  const first = await make()
  await first.inSync('a', 'b')
  await write(first.device, 0, pattern(1))
  await flush(first.device)
  b.goAway()
  await first.until('b left', () => first.state('b') === 'missing')
  await write(first.device, 0, pattern(2))
  await flush(first.device)
  const { generation } = JSON.parse((await store.load('m'))!) as VolumeRecord
  const geometry = { dataSize: a.size, extentSize, slots: slotsFor(2) }
  const maps = a.size - metadataBytes(geometry)
  let held = 0
  a.hold = ({ operation, offset }) => {
    const isMap = operation === Operation.write && offset >= maps && !slotsOf(a).includes(offset)
    // Before it was copied, what b lacks is written.
    const holds = isMap && b.cached[0] === 2
    if (holds) held++
    return holds
  }
  b.comeBack()
  await first.until('b is whole, and flushed, but for the maps', () => held > 0)
  await write(first.device, 0, pattern(3))
  expect(b.cached[0]).to.equal(3)
  let told = 0
  a.letGo()
  a.hold = (request) => {
    const holds = baseIn(a, request) > generation.counter
    if (holds) told++
    return holds
  }
  await first.until('a is about to be told of the base', () => told > 0)
  await first.until('b is told', () => baseShown(b) > generation.counter)
  expect(first.state('b')).to.equal('syncing')
  return { a, first, make }
}

/** What the volume reads before and after a crash, and which of its boot ids it shows. */
async function aroundCrash({ a, first, make }: Awaited<ReturnType<typeof joining>>, was: unknown) {
  const bootIds = [was, first.device.facts?.bootId]
  const before = first.device.usable ? await valueOf(first) : 'waits'
  first.kill()
  a.hold = () => false
  a.fault = () => null
  const second = await make()
  await second.until('it serves', () => second.device.usable)
  const after = await valueOf(second)
  bootIds.push(second.device.facts?.bootId)
  return { before, after, bootIds: bootIds.map((id) => bootIds.indexOf(id)) }
}

describe('the last leg in sync while another joins', () => {
  it('reads after a crash as it read before where it lost its cache', async () => {
    const all = await joining()
    const was = all.first.device.facts?.bootId
    all.a.restart()
    await later(50)
    const seen = await aroundCrash(all, was)
    // A volume that suspends instead has shown nothing that could be taken back.
    if (seen.before !== 'waits') expect(seen.after, JSON.stringify(seen)).to.equal(seen.before)
  })

  it('reads after a crash as it read before where it failed a write', async () => {
    const all = await joining()
    const was = all.first.device.facts?.bootId
    failing(all.a, (operation, offset) => operation === Operation.write && offset === 0)
    // Told, or carried out again by the other leg.
    await outcome(write(all.first.device, 0, pattern(9)))
    const seen = await aroundCrash(all, was)
    if (seen.before !== 'waits') expect(seen.after, JSON.stringify(seen)).to.equal(seen.before)
  })
})
