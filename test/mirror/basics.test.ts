import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, read, write } from '../support/io.ts'
import { disks, extentSize, Head, MemoryStore, pattern } from './head.ts'

describe('a mirror', () => {
  it('writes to every leg and reads back', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    expect(head.device.state.word).to.equal('online')
    await write(head.device, 8192, pattern(5))
    expect((await read(head.device, 8192, 4096)).equals(pattern(5))).to.equal(true)
    for (const disk of Object.values(legs))
      expect(disk.cached.subarray(8192, 12288).equals(pattern(5))).to.equal(true)
    await head.device.close()
  })

  it('is created on blank legs whose block status cannot tell that they are blank', async () => {
    const legs = disks('a', 'b')
    for (const disk of Object.values(legs)) disk.tellsZeroes = false
    const head = await new Head(legs, new MemoryStore()).open()
    expect([head.state('a'), head.state('b')]).to.deep.equal(['in-sync', 'in-sync'])
    const { size } = head.device.facts!
    for (const { log } of Object.values(legs)) {
      const reads = log.filter(({ operation, offset }) => {
        return operation === Operation.read && offset < size
      })
      const bytes = reads.reduce((sum, { offset, length }) => {
        return sum + Math.min(length, size - offset)
      }, 0)
      expect(bytes, 'each is read once').to.equal(size)
    }
    await head.device.close()
  })

  it('is not created as blank on a leg that was written to before it was claimed', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs
    for (const disk of Object.values(legs)) disk.tellsZeroes = false
    b!.onClaim = () => {
      if (b!.claims.length === 0) {
        pattern(7).copy(b!.cached)
        b!.stampCount++
      }
      return Promise.resolve()
    }
    const head = await new Head(legs, new MemoryStore()).open()
    await head.inSync('a', 'b')
    expect(head.lastResync('a')?.source).to.equal('b')
    expect(a!.cached.subarray(0, 4096).equals(pattern(7))).to.equal(true)
    await head.device.close()
  })

  it('goes on without a leg that went away, and copies to it only what it missed', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await write(head.device, 3 * extentSize, pattern(2))
    legs['b']!.goAway()
    await write(head.device, 5 * extentSize, pattern(3))
    expect(head.state('b')).to.equal('missing')
    expect(head.device.state.word).to.equal('degraded')
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    expect(legs['b']!.cached.subarray(5 * extentSize, 5 * extentSize + 4096)).to.deep.equal(
      pattern(3),
    )
    expect(head.lastResync('b')).to.include({ kind: 'partial', bytes: 4096, source: 'a' })
    expect(head.device.state.word).to.equal('online')
    await head.device.close()
  })

  it('starts again after a clean close with nothing to copy', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await first.device.close()
    const second = await new Head(legs, store).open()
    expect([second.state('a'), second.state('b')]).to.deep.equal(['in-sync', 'in-sync'])
    expect((await read(second.device, 0, 4096)).equals(pattern(1))).to.equal(true)
    await second.device.close()
  })

  it('makes legs equal after its crash, from one of them', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 4096
    void write(first.device, 4096, pattern(9))
    await first.until('a has it', () => legs['a']!.cached[4096] === 9)
    first.kill()
    legs['b']!.hold = () => false
    expect(legs['b']!.cached[4096]).to.equal(0)
    const second = await new Head(legs, store).open()
    await second.inSync('a', 'b')
    expect(legs['a']!.cached.subarray(0, extentSize)).to.deep.equal(
      legs['b']!.cached.subarray(0, extentSize),
    )
    expect(second.lastResync('b')).to.include({ kind: 'crash', bytes: extentSize })
    await second.device.close()
  })

  it('tells the client when the last leg fails, and keeps it', async () => {
    const legs = disks('a')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['a']!.fault = ({ operation, offset }) =>
      operation === Operation.write && offset === 0 ? new StorageError('NO_SPACE', 'full') : null
    const failed = await write(head.device, 0, pattern(2)).catch((error: unknown) => error)
    expect((failed as StorageError).code).to.equal('NO_SPACE')
    expect((await read(head.device, 0, 512)).length).to.equal(512)
    await flush(head.device)
    await head.device.close()
  })
})
