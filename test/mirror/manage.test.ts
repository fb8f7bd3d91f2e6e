import { expect } from 'chai'
import type { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { systemClock } from '../../src/base/clock.ts'
import { flush, read, write } from '../support/io.ts'
import { Disk, DiskDriver } from './disk.ts'
import { disks, extentSize, failing, Head, MemoryStore, outcome, pattern } from './head.ts'

async function refusal(promise: Promise<unknown>): Promise<StorageError> {
  try {
    await promise
  } catch (error) {
    return error as StorageError
  }
  throw new Error('it was not refused')
}

describe('legs of a mirror', () => {
  it('are detached as an image that stays as it was, and come back by the difference', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b', { as: 'monday' })
    expect(head.leg('b')).to.include({ state: 'detached', label: 'monday' })
    await write(head.device, 0, pattern(2))
    await write(head.device, 9 * extentSize, pattern(3))
    expect(legs['b']!.stable.subarray(0, 4096)).to.deep.equal(pattern(1))
    await head.driver.attachLeg('b')
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'partial', bytes: 2 * 4096 })
    expect(legs['b']!.cached.subarray(0, 4096)).to.deep.equal(pattern(2))
    await head.device.close()
  })

  it('that were changed while detached are refused, or the changes discarded', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    legs['b']!.cached.fill(7, 2 * extentSize, 2 * extentSize + 1024)
    legs['b']!.stampCount++
    const error = await refusal(head.driver.attachLeg('b'))
    expect(error.message).to.include('1024 bytes would be discarded')
    expect(legs['b']!.epoch, 'its owner may go on writing').to.equal(0)
    expect(head.state('b')).to.equal('detached')
    await head.driver.attachLeg('b', { discard: true })
    await head.inSync('a', 'b')
    expect(head.lastResync('b')!.bytes).to.equal(extentSize)
    expect(legs['b']!.cached[2 * extentSize]).to.equal(0)
    await head.device.close()
  })

  it('stay detached over a restart of the head', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await first.driver.detachLeg('b', { as: 'x' })
    await write(first.device, 4 * extentSize, pattern(4))
    first.kill()
    const second = await new Head(legs, store).open()
    expect(second.leg('b')).to.include({ state: 'detached', label: 'x' })
    await second.driver.attachLeg('b')
    await second.inSync('b')
    expect(second.lastResync('b')!.bytes).to.equal(extentSize)
    expect(legs['b']!.cached[4 * extentSize]).to.equal(4)
    await second.device.close()
  })

  it('are added and removed while the volume runs', async () => {
    const legs = disks('a')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    const disk = new Disk(4 * MiB)
    const device = new Device('m/c', new DiskDriver(disk), systemClock)
    await device.open()
    await head.driver.addLeg({ name: 'c', device })
    await head.inSync('a', 'c')
    expect(disk.cached.subarray(0, 4096)).to.deep.equal(pattern(1))
    await (await head.driver.removeLeg('a')).close()
    await write(head.device, 0, pattern(2))
    expect(disk.cached[0]).to.equal(2)
    expect(legs['a']!.cached[0]).to.equal(1)
    const error = await refusal(head.driver.removeLeg('c'))
    expect(error.message).to.include('only leg in sync')
    await head.device.close()
  })

  it('are copied whole when invalidated, and not at all when trusted', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.driver.invalidateLeg('b')
    await head.until('b is back', () => head.lastResync('b')?.outcome === 'complete')
    expect(head.lastResync('b')!.kind).to.equal('full')
    await head.inSync('b')
    legs['b']!.goAway()
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = () => true
    legs['b']!.comeBack()
    const trusting = head.driver.trustLeg('b')
    legs['b']!.letGo()
    await trusting
    await head.inSync('b')
    expect(legs['b']!.cached[0]).to.equal(0)
    expect(head.history().some(({ text }) => text.includes('trusted'))).to.equal(true)
    await head.device.close()
  })

  it('come back by themselves with what they lack where trusting them was refused', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.inSync('a', 'b')
    const { a, b } = legs
    failing(b!, (operation) => operation === Operation.flush)
    await write(head.device, extentSize, pattern(1))
    await flush(head.device)
    await head.until('b failed', () => head.state('b') === 'failed')
    await write(head.device, 0, pattern(2))
    expect(await outcome(head.driver.trustLeg('b'))).to.equal('IO')
    b!.fault = () => null
    await head.inSync('a', 'b')
    expect([a!.cached[0], b!.cached[0]]).to.deep.equal([2, 2])
    await head.device.close()
  })

  it('leave for good as images without metadata', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    const { size } = head.device.facts!
    await (await head.driver.exportLeg('b')).close()
    expect(legs['b']!.stable.subarray(0, 4096)).to.deep.equal(pattern(1))
    expect(legs['b']!.cached.subarray(size).every((byte) => byte === 0)).to.equal(true)
    expect(head.device.state.word).to.equal('online')
    await head.device.close()
  })

  it('that hold an image become the source without being copied', async () => {
    const legs = disks('a', 'b')
    legs['b']!.cached.fill(6, 0, 5 * extentSize)
    legs['b']!.cached.copy(legs['b']!.stable)
    const head = await new Head(legs, new MemoryStore()).open()
    expect((await read(head.device, extentSize, 512))[0]).to.equal(6)
    await head.inSync('a', 'b')
    expect(legs['a']!.cached.subarray(0, 5 * extentSize).every((byte) => byte === 6)).to.equal(true)
    await head.device.close()
  })
})

describe('verify', () => {
  it('repairs by majority of three', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.cached.fill(9, 512, 1024)
    const result = await head.driver.verify()
    expect(result).to.include({ bytesDifferent: 512, bytesRepaired: 512, complete: true })
    expect(result.differences[0]!.legs).to.deep.equal(['b'])
    expect(legs['b']!.cached[512]).to.equal(1)
    await head.device.close()
  })

  it('says where two differ, and repairs from the one that is named', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    legs['b']!.cached.fill(9, 512, 1024)
    const found = await head.driver.verify()
    expect(found).to.include({ bytesDifferent: 512, bytesRepaired: 0 })
    expect(found.differences[0]!.legs).to.deep.equal(['a', 'b'])
    await head.driver.verify({ repairFrom: 'b' })
    expect(legs['a']!.cached[512]).to.equal(9)
    expect(head.history().at(-1)!.resync).to.include({ kind: 'verify', source: 'b' })
    await head.device.close()
  })

  it('says when it did not compare everything, and does not begin with one leg', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncBytesPerSecond: 4 * MiB, resyncChunkBytes: extentSize }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const verifying = head.driver.verify()
    await head.until('it has begun', () => {
      const verify = head.driver.describe()['verify'] as { bytesDone: number } | null
      return (verify?.bytesDone ?? 0) > 0
    })
    legs['b']!.goAway()
    const { complete, bytesChecked } = await verifying
    expect(complete).to.equal(false)
    expect(bytesChecked).to.be.below(head.device.facts!.size)
    expect((await refusal(head.driver.verify())).code).to.equal('CONFIG')
    expect((await refusal(head.driver.verify({ bytesPerSecond: 0 }))).code).to.equal('CONFIG')
    await head.device.close()
  })
})
