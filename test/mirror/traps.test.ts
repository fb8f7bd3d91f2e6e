import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import type { Lease } from '../../src/base/slab.ts'
import { Operation } from '../../src/device/request.ts'
import type { StateStore } from '../../src/base/store.ts'
import { flush, read, submit, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import {
  disks,
  extentSize,
  failing,
  Head,
  HeldStore,
  later,
  MemoryStore,
  outcome,
  pattern,
} from './head.ts'

/** Where data end on a leg, for telling metadata from data. */
function dataOnly(head: Head): (offset: number) => boolean {
  const { size } = head.device.facts!
  return (offset) => offset < size
}

class FailingStore extends MemoryStore implements StateStore {
  fails = false

  override save(key: string, text: string): Promise<void> {
    return this.fails ? Promise.reject(new Error('read-only')) : super.save(key, text)
  }
}

describe('a mirror does not fall for', () => {
  it('overlapping writes that reach legs in different order', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = ({ operation }) => operation === Operation.write
    const first = write(head.device, 0, pattern(2, 8192))
    const second = write(head.device, 4096, pattern(3))
    await head.until('a has the first', () => legs['a']!.cached[4096] === 2)
    await later(10)
    expect(legs['a']!.cached[4096]).to.equal(2)
    legs['b']!.letGo()
    await Promise.all([first, second])
    for (const disk of Object.values(legs)) expect(disk.cached[4096]).to.equal(3)
    await head.device.close()
  })

  it('acknowledging before the leaving of a leg is durable', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store).open()
    await write(head.device, 0, pattern(1))
    const open = store.shut()
    failing(legs['b']!, (operation, offset) => operation === Operation.write && offset === 0)
    let acknowledged = false
    const writing = write(head.device, 0, pattern(2)).then(() => (acknowledged = true))
    let flushed = false
    const flushing = flush(head.device).then(() => (flushed = true))
    await head.until('b left', () => head.state('b') !== 'in-sync')
    await later(20)
    expect([acknowledged, flushed]).to.deep.equal([false, false])
    open()
    await writing
    await flushing
    await head.device.close()
  })

  it('a state directory that cannot be written, and goes on when it can', async () => {
    const legs = disks('a', 'b')
    const store = new FailingStore()
    const head = await new Head(legs, store, { suspendMs: 100 }).open()
    await write(head.device, 0, pattern(1))
    store.fails = true
    legs['b']!.goAway()
    expect(await outcome(write(head.device, 0, pattern(2)))).to.equal('UNAVAILABLE')
    store.fails = false
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    await write(head.device, 0, pattern(3))
    expect(legs['b']!.cached[0]).to.equal(3)
    await head.device.close()
  })

  it('writing to a leg alone before it is durable that it is in sync', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs as { a: Disk; b: Disk }
    const store = new FailingStore()
    const head = await new Head(legs, store, { legRetryMs: 1 }).open()
    b.goAway()
    await write(head.device, 0, pattern(1))
    store.fails = true
    b.comeBack()
    await head.until('b was filled', () => b.cached[0] === 1)
    await later(50)
    a.goAway()
    const writing = write(head.device, 0, pattern(2))
    await later(50)
    expect(b.cached[0]).to.equal(1)
    store.fails = false
    a.comeBack()
    await writing
    await head.inSync('a', 'b')
    expect([a.cached[0], b.cached[0]]).to.deep.equal([2, 2])
    await head.device.close()
  })

  it('submitting data although the intent could not be logged', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legRetryMs: 500 }).open()
    const isData = dataOnly(head)
    const order: string[] = []
    failing(legs['b']!, (operation, offset) => operation === Operation.write && !isData(offset))
    legs['a']!.fault = ({ operation, offset }) => {
      if (operation === Operation.write) order.push(isData(offset) ? 'data' : 'metadata')
      return null
    }
    await write(head.device, 0, pattern(1))
    // The intent, the superblock that says that b left, the one that says that all have this, data.
    expect(order).to.deep.equal(['metadata', 'metadata', 'metadata', 'data'])
    expect(legs['b']!.cached[0]).to.equal(0)
    expect(head.state('b')).to.equal('failed')
    await head.device.close()
  })

  it('a leg that lost its cache', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    await write(head.device, 4 * extentSize, pattern(2))
    legs['b']!.powerCut()
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[4 * extentSize]).to.equal(2)
    expect(head.lastResync('b')).to.include({ kind: 'partial', bytes: 4096 })
    await head.device.close()
  })

  it('a leg that lost its cache while the head was away too', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    const { bootId } = first.device.facts!
    first.kill()
    legs['a']!.powerCut()
    const second = await new Head(legs, store).open()
    expect((await read(second.device, 0, 4096))[0]).to.equal(1)
    expect(second.device.facts!.bootId).to.equal(bootId)
    await second.inSync('a', 'b')
    expect(legs['a']!.cached[0]).to.equal(1)
    await second.device.close()
  })

  it('a flush that one leg fails', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await write(head.device, 3 * extentSize, pattern(1))
    failing(legs['b']!, (operation) => operation === Operation.flush)
    await flush(head.device)
    expect(head.leg('b')).to.include({ bytesOutOfSync: 2 * 4096 })
    legs['b']!.fault = () => null
    await head.inSync('a', 'b')
    expect(head.lastResync('b')!.bytes).to.equal(2 * 4096)
    await head.device.close()
  })

  it('forgetting to tell that acknowledged writes are gone', async () => {
    const legs = disks('a')
    const head = await new Head(legs, new MemoryStore()).open()
    const { bootId } = head.device.facts!
    await write(head.device, 0, pattern(1))
    legs['a']!.powerCut()
    legs['a']!.comeBack()
    await head.until('it runs again', () => head.device.state.word === 'online')
    expect(head.device.facts!.bootId).not.to.equal(bootId)
    expect(head.device.losses).to.equal(1)
    expect(await outcome(flush(head.device))).to.equal('done')
    await head.device.close()
  })

  it('giving back a buffer that a leg still sends', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legTimeoutMs: 40 }).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = ({ operation }) => operation === Operation.write
    let holds = 1
    const lease: Lease = {
      retain: () => (holds += 1),
      release: () => (holds -= 1),
    }
    const done = submit(head.device, Operation.write, 0, 4096, 0, [pattern(2)], lease)
    expect((await done).error).to.equal(null)
    expect(head.state('b')).to.equal('missing')
    expect(holds).to.equal(1)
    legs['b']!.letGo()
    await head.until('it let go', () => holds === 0)
    await head.inSync('b')
    expect(legs['b']!.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('a slow leg for longer than it may take', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legTimeoutMs: 40 }).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = () => true
    await write(head.device, 0, pattern(2))
    expect(head.leg('b').state).to.equal('missing')
    expect(head.leg('b').reason).to.include('no answer')
    await read(head.device, 0, 4096)
    legs['b']!.letGo()
    await head.inSync('b')
    await head.device.close()
  })

  it('a read error on one leg', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), {}, [], ['b']).open()
    await write(head.device, 0, pattern(1))
    let bad = true
    legs['a']!.fault = ({ operation, offset }) => {
      if (offset !== 0) return null
      if (operation === Operation.write) bad = false
      return bad && operation === Operation.read ? new StorageError('IO', 'bad sector') : null
    }
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.until('it was rewritten', () => !bad)
    expect(head.state('a')).to.equal('in-sync')
    await head.device.close()
  })

  it('a range that no leg can vouch for', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    for (const disk of Object.values(legs)) failing(disk, (kind) => kind === Operation.read)
    expect(await outcome(read(head.device, 0, 4096))).to.equal('IO')
    for (const disk of Object.values(legs)) disk.fault = () => null
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.device.close()
  })

  it('trims that a leg missed', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1, extentSize))
    legs['b']!.goAway()
    await submit(head.device, Operation.trim, 0, extentSize)
    await submit(head.device, Operation.writeZeroes, 5 * extentSize, 4096)
    legs['b']!.comeBack()
    await head.inSync('b')
    expect(legs['b']!.cached.subarray(0, extentSize).every((byte) => byte === 0)).to.equal(true)
    expect(head.lastResync('b')!.bytes).to.equal(extentSize + 4096)
    await head.device.close()
  })

  it('a resync source that cannot be read', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.goAway()
    await write(head.device, 0, pattern(2))
    failing(legs['a']!, (operation, offset) => operation === Operation.read && offset === 0)
    legs['b']!.comeBack()
    const said = '4096 bytes at 0 cannot be read from a'
    await head.until('it says so', () => head.leg('b').reason.includes(said))
    expect(head.state('b')).to.equal('syncing')
    legs['a']!.fault = () => null
    await head.inSync('b')
    expect(legs['b']!.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('too few legs, when more are asked for', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { minInSync: 2 }).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.goAway()
    let acknowledged = false
    const writing = write(head.device, 0, pattern(2)).then(() => (acknowledged = true))
    expect((await read(head.device, 0, 4096)).length).to.equal(4096)
    await later(20)
    expect(acknowledged).to.equal(false)
    legs['b']!.comeBack()
    await writing
    expect(legs['b']!.cached[0]).to.equal(2)
    await head.device.close()
  })

  it('the loss of every leg', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    for (const disk of Object.values(legs)) disk.goAway()
    const writing = write(head.device, 4096, pattern(2))
    const reading = read(head.device, 0, 4096)
    await head.until('it says so', () => head.device.state.word === 'degraded')
    for (const disk of Object.values(legs)) disk.comeBack()
    await writing
    expect((await reading)[0]).to.equal(1)
    await head.inSync('a', 'b')
    for (const disk of Object.values(legs)) expect(disk.cached[4096]).to.equal(2)
    await head.device.close()
  })

  it('waiting without bounds when every leg is lost', async () => {
    const legs = disks('a')
    const settings = { suspendMs: 60, suspendRequestsMax: 2 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    await write(head.device, 0, pattern(1))
    legs['a']!.goAway()
    const outcomes = [1, 2, 3].map(() => outcome(read(head.device, 0, 4096)))
    expect(await outcomes[2]).to.equal('UNAVAILABLE')
    expect(await Promise.all(outcomes)).to.deep.equal(Array(3).fill('UNAVAILABLE'))
    await head.until('it is offline', () => head.device.state.word === 'offline')
    legs['a']!.comeBack()
    await head.until('it runs', () => head.device.state.word === 'online')
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.device.close()
  })
})
