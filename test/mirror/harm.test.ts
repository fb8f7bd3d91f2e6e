import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockBytes, superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, failing, Head, later, MemoryStore, outcome, pattern } from './head.ts'

/** Each of these harmed data or the volume once. */

describe('a mirror is not harmed by', () => {
  it('words of any length, which others say or an operator types', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    expect(await outcome(first.driver.detachLeg('b', { as: 'x'.repeat(5000) }))).to.equal('CONFIG')
    legs['a']!.fault = ({ operation, offset }) =>
      operation === Operation.write && offset === 0
        ? new StorageError('IO', 'bad '.repeat(2000))
        : null
    await write(first.device, 0, pattern(2))
    expect(first.leg('a').reason.length).to.be.below(1000)
    first.kill()
    legs['a']!.fault = () => null
    const second = await new Head(legs, store).open()
    await second.inSync('a', 'b')
    expect((await read(second.device, 0, 4096))[0]).to.equal(2)
    await second.device.close()
  })

  it('a close without an intent log while a leg is away that then loses its cache', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const settings = { intentLog: false }
    const first = await new Head(legs, store, settings).open()
    await write(first.device, 0, pattern(1))
    legs['b']!.goAway()
    await first.until('b left', () => first.state('b') === 'missing')
    await first.device.close()
    legs['b']!.powerCut()
    const second = await new Head(legs, store, settings).open()
    await second.inSync('a', 'b')
    expect(legs['b']!.cached[0]).to.equal(1)
    await second.device.close()
  })

  it('a leg that cannot flush when it is to be detached', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    failing(legs['b']!, (operation) => operation === Operation.flush)
    expect(await outcome(head.driver.detachLeg('b'))).to.equal('IO')
    // As a kernel drops the pages that it could not write.
    legs['b']!.cached = Buffer.from(legs['b']!.stable)
    legs['b']!.fault = () => null
    await flush(head.device)
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[0]).to.equal(1)
    await head.device.close()
  })

  it('a write that failed on the last leg while another became in sync', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.goAway()
    await write(head.device, 4 * extentSize, pattern(2))
    legs['b']!.hold = ({ operation, offset }) =>
      operation === Operation.write && (offset === 0 || offset === 4 * extentSize)
    legs['b']!.comeBack()
    await head.until('b is syncing', () => head.state('b') === 'syncing')
    failing(legs['a']!, (operation, offset) => operation === Operation.write && offset === 0)
    let done = ''
    const writing = outcome(write(head.device, 0, pattern(3))).then((word) => (done = word))
    await later(20)
    expect(done).to.equal('')
    // The copy ends, the write on b does not yet.
    legs['b']!.letGo((request) => request.offset === 4 * extentSize)
    await head.until('b is copied', () => {
      const { state, resync } = head.leg('b')
      return state === 'in-sync' || (resync as { bytesLeft: number }).bytesLeft > 0
    })
    await later(20)
    legs['a']!.fault = () => null
    legs['b']!.letGo()
    expect(await writing).to.equal('IO')
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[0]).to.equal(legs['a']!.cached[0])
    await head.device.close()
  })

  it('a repair whose source cannot be read', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), {}, [], ['b']).open()
    await write(head.device, 0, pattern(1))
    let bad = 1
    failing(legs['a']!, (kind, offset) => kind === Operation.read && offset === 0 && bad > 0)
    let reads = 0
    failing(legs['b']!, (kind, offset) => kind === Operation.read && offset === 0 && reads++ > 0)
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.until('the repair was tried', () => reads === 2)
    await later(20)
    bad = 0
    expect(head.history().filter(({ text }) => text.includes('left'))).to.deep.equal([])
    await head.device.close()
  })

  it('superblocks that were written and not flushed, one in each slot', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const disk = legs['b']!
    const start = superblockOffset(disk.size, 0)
    let tried = 0
    disk.fault = (request) => {
      const { operation, offset } = request
      if (operation !== Operation.write || offset < start) return null
      tried++
      request.copyTo(disk.cached.subarray(offset))
      return new StorageError('IO', 'it could not be flushed')
    }
    legs['b']!.goAway()
    await write(head.device, 0, pattern(1))
    legs['b']!.comeBack()
    await head.until('it was tried a few times', () => tried > 4)
    expect(unflushedSlots(disk)).to.have.length(1)
    disk.fault = () => null
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('the same, when the head has died in between', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const disk = legs['b']!
    const start = superblockOffset(disk.size, 0)
    const first = await new Head(legs, store).open()
    let tried = 0
    disk.fault = (request) => {
      const { operation, offset } = request
      if (operation === Operation.write && offset >= start) {
        tried++
        request.copyTo(disk.cached.subarray(offset))
      } else if (operation !== Operation.flush || tried === 0) return null
      return new StorageError('IO', 'it cannot be flushed')
    }
    disk.goAway()
    await write(first.device, 0, pattern(1))
    disk.comeBack()
    await first.until('it was tried', () => tried > 0)
    first.kill()
    const second = await new Head(legs, store).open()
    await second.until('it is tried again', () => second.state('b') === 'failed')
    expect(unflushedSlots(disk)).to.have.length(1)
    disk.fault = () => null
    await second.inSync('a', 'b')
    await second.device.close()
  })
})

/** Superblocks that a power failure would tear. */
function unflushedSlots(disk: Disk): number[] {
  return [0, 1].filter((slot) => {
    const from = superblockOffset(disk.size, slot)
    const [cached, stable] = [disk.cached, disk.stable].map((bytes) =>
      bytes.subarray(from, from + superblockBytes),
    )
    return !cached!.equals(stable!)
  })
}
