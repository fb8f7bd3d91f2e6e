import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import type { VolumeRecord } from '../../src/mirror/record.ts'
import { flush, read, write } from '../support/io.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

describe('a volume', () => {
  it('grows, however long its history is', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { historyMax: 4096 }).open()
    const { size } = head.device.facts!
    const { record } = (head.driver as unknown as { volume: { record: VolumeRecord } }).volume
    const entry = { at: 1, kind: 'operator' as const, leg: '', text: 'x'.repeat(200) }
    for (let number = 100; number < 2100; number++)
      record.entries.push({ ...entry, number, generation: 1 })
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    await head.until('it has grown', () => head.device.facts!.size === size + 4 * MiB)
    const texts = head.history().map(({ text }) => text)
    expect(texts.filter((text) => text.includes('cannot grow'))).to.deep.equal([])
    await head.device.close()
  })

  it('grows while it runs when every leg has grown', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const head = await new Head(legs, store).open()
    const { size } = head.device.facts!
    await write(head.device, size - 4096, pattern(1))
    legs['a']!.grow(8 * MiB)
    await write(head.device, 0, pattern(2))
    expect(head.device.facts!.size).to.equal(size)
    legs['b']!.grow(9 * MiB)
    await head.until('it has grown', () => head.device.facts!.size === size + 4 * MiB)
    await head.inSync('a', 'b')
    expect((await read(head.device, size - 4096, 4096)).equals(pattern(1))).to.equal(true)
    expect((await read(head.device, size, MiB)).every((byte) => byte === 0)).to.equal(true)
    await write(head.device, size + 3 * MiB, pattern(3))
    for (const disk of Object.values(legs)) {
      expect(disk.cached.subarray(size, size + 3 * MiB).every((byte) => byte === 0)).to.equal(true)
      expect(disk.cached[size + 3 * MiB]).to.equal(3)
    }
    await head.device.close()
    const again = await new Head(legs, store).open()
    expect(again.device.facts!.size).to.equal(size + 4 * MiB)
    await again.inSync('a', 'b')
    await again.device.close()
  })

  it('that a newer head takes over while it grows leaves nobody waiting for that', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    // It starts anew from its larger record, and its next claim is refused.
    for (const disk of Object.values(legs)) disk.epoch = disk.last = 2 ** 50
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    const grown = head.driver.growNow()
    await head.until('it was replaced', () => head.device.state.word === 'failed')
    expect((await grown).reason).to.include('a newer head has taken over')
    await head.device.close()
  })

  it('is the old one or the new one, whenever its head dies while it grows', async function () {
    for (let steps = 0, grown = false; !grown; steps += 3) {
      const legs = disks('a', 'b')
      const store = new MemoryStore()
      const first = await new Head(legs, store).open()
      const { size } = first.device.facts!
      await write(first.device, 0, pattern(1))
      await write(first.device, size - 4096, pattern(2))
      let left = steps
      for (const disk of Object.values(legs))
        disk.fault = () => {
          if (left-- === 0) first.kill()
          return left < 0 ? new StorageError('UNAVAILABLE', 'the head is dead') : null
        }
      for (const disk of Object.values(legs)) disk.grow(8 * MiB)
      await first.until('dead or grown', () => left < 0 || first.device.facts!.size > size)
      grown = left >= 0
      first.kill()
      for (const disk of Object.values(legs)) disk.fault = () => null
      const second = await new Head(legs, store).open()
      await second.until('it grew', () => second.device.facts?.size === size + 4 * MiB)
      await second.inSync('a', 'b')
      expect((await read(second.device, 0, 4096)).equals(pattern(1))).to.equal(true)
      expect((await read(second.device, size - 4096, 4096)).equals(pattern(2))).to.equal(true)
      const bytes = second.device.facts!.size
      const [a, b] = [legs['a']!, legs['b']!].map((disk) => disk.cached.subarray(0, bytes))
      expect(a!.equals(b!), `after ${steps} steps`).to.equal(true)
      await second.device.close()
    }
  })

  it('puts no leg in doubt whose head dies while its superblocks are moved', async () => {
    for (let steps = 0, grown = false; !grown; steps++) {
      const legs = disks('a')
      const store = new MemoryStore()
      const first = await new Head(legs, store).open()
      const { size } = first.device.facts!
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      const a = legs['a']!
      let left = steps
      a.fault = () => {
        if (left-- === 0) first.kill()
        return left < 0 ? new StorageError('UNAVAILABLE', 'the head is dead') : null
      }
      a.grow(8 * MiB)
      await first.until('dead or grown', () => left < 0 || first.device.facts!.size > size)
      grown = left >= 0
      first.kill()
      a.fault = () => null
      const second = await new Head(legs, store).open()
      await second.until('it is served, or waits', () => {
        return second.device.usable || String(second.driver.describe()['reason']).includes('wait')
      })
      const reason = String(second.driver.describe()['reason'])
      expect(reason, `after ${steps} steps`).to.not.include('put back')
      await second.device.close()
    }
  })

  it('takes no room that a leg has not any more when the log is clean', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    const { size } = head.device.facts!
    let flushes = 0
    legs['b']!.hold = ({ operation }) => {
      if (operation === Operation.flush) flushes++
      return operation === Operation.flush
    }
    for (const disk of Object.values(legs)) disk.grow(12 * MiB)
    await head.until('it is about to grow', () => flushes > 0)
    for (const disk of Object.values(legs)) disk.shrink(10 * MiB)
    legs['b']!.letGo()
    await head.until('it has grown', () => head.device.facts!.size > size)
    expect(head.device.facts!.size).to.equal(size + 6 * MiB)
    await head.inSync('a', 'b')
    const suspensions = head.history().filter(({ text }) => text.startsWith('suspended'))
    expect(suspensions.map(({ text }) => text)).to.deep.equal(['suspended: the volume has grown'])
    await head.device.close()
  })

  it('stays as it is when a leg has no room where it grew, and is served', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legRetryMs: 1 }).open()
    const { size } = head.device.facts!
    legs['b']!.fault = ({ operation, offset }) =>
      offset >= 4 * MiB && operation !== Operation.read && operation !== Operation.flush
        ? new StorageError('NO_SPACE', 'the disk is full')
        : null
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    const isSaid = (): boolean => head.history().some(({ text }) => text.includes('disk is full'))
    await head.until('it says why', isSaid)
    await later(100)
    const suspensions = (): number =>
      head.history().filter(({ text }) => text.startsWith('suspended')).length
    expect(suspensions()).to.be.at.most(1)
    await head.inSync('a', 'b')
    expect(head.device.facts!.size).to.equal(size)
    await write(head.device, 0, pattern(1))
    // Larger once more: it is tried again.
    legs['b']!.fault = () => null
    legs['b']!.grow(9 * MiB)
    await head.until('it has grown', () => head.device.facts!.size === size + 4 * MiB)
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('grows when there is room at last on a leg where there was none', async () => {
    const legs = disks('a', 'b')
    const retry = { legRetryMs: 1, legRetryMsMax: 20 }
    const head = await new Head(legs, new MemoryStore(), retry).open()
    const { size } = head.device.facts!
    let refused = 0
    legs['b']!.fault = ({ operation, offset }) => {
      const grows = offset >= 4 * MiB && operation !== Operation.flush
      if (!grows || operation === Operation.read) return null
      refused++
      return new StorageError('NO_SPACE', 'the disk is full')
    }
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    await head.until('it was tried twice', () => refused > 1)
    legs['b']!.fault = () => null
    await head.until('it has grown', () => head.device.facts?.size === size + 4 * MiB)
    const complaints = head.history().filter(({ text }) => text.includes('cannot grow'))
    expect(complaints.length).to.equal(1)
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('that has grown starts without a leg that cannot be made zero', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { size } = head.device.facts!
    legs['b']!.fault = ({ operation, offset }) =>
      offset === size && operation === Operation.writeZeroes
        ? new StorageError('IO', 'bad disk')
        : null
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    await head.until('it has grown', () => head.device.facts!.size === size + 4 * MiB)
    await write(head.device, 0, pattern(1))
    expect(head.state('b')).to.not.equal('in-sync')
    legs['b']!.fault = () => null
    await head.inSync('a', 'b')
    expect(legs['b']!.cached.subarray(size, size + MiB).every((byte) => byte === 0)).to.equal(true)
    await head.device.close()
  })

  it('lets clients write while its new space is made zero', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { size } = head.device.facts!
    let zeroing = 0
    for (const disk of Object.values(legs))
      disk.hold = ({ operation, offset }) => {
        if (operation !== Operation.writeZeroes || offset < 4 * MiB) return false
        zeroing++
        return true
      }
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    await head.until('it is made zero', () => zeroing > 0)
    await write(head.device, 0, pattern(1))
    for (const disk of Object.values(legs)) disk.letGo()
    await head.until('it has grown', () => head.device.facts!.size === size + 4 * MiB)
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('is found by a head that remembers nothing when all legs grew meanwhile', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore(), { source: 'a' }).open()
    const { size } = first.device.facts!
    await write(first.device, 0, pattern(1))
    await first.inSync('a', 'b')
    legs['a']!.goAway()
    await write(first.device, 0, pattern(2))
    await flush(first.device)
    first.kill()
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    const second = await new Head(legs, new MemoryStore(), { source: 'a' }).open()
    await second.until('it grew', () => second.device.facts?.size === size + 4 * MiB)
    await second.inSync('a', 'b')
    expect((await read(second.device, 0, 4096))[0]).to.equal(2)
    await second.device.close()
  })

  it('does not start without a leg that has grown, and cannot be read where it ended', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    legs['a']!.goAway()
    await write(first.device, 0, pattern(2))
    await flush(first.device)
    first.kill()
    const b = legs['b']!
    b.grow(8 * MiB)
    b.fault = ({ operation, offset }) =>
      operation === Operation.read && offset < 4 * MiB ? new StorageError('IO', 'bad disk') : null
    const second = await new Head(legs, new MemoryStore()).open()
    expect(second.device.usable).to.equal(false)
    b.fault = () => null
    await second.inSync('a', 'b')
    expect((await read(second.device, 0, 4096))[0]).to.equal(2)
    await second.device.close()
  })

  it('is not created anew while a leg cannot be read that may be an older one', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    first.kill()
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    const { size } = legs['b']!
    // Where its superblocks would be it can be read, and is blank.
    legs['b']!.fault = ({ operation, offset }) =>
      operation === Operation.read && offset < size - 4 * MiB
        ? new StorageError('IO', 'it cannot be read')
        : null
    const second = await new Head(legs, new MemoryStore(), { source: 'b' }).open()
    expect(second.device.usable).to.equal(false)
    legs['b']!.fault = () => null
    await second.inSync('a', 'b')
    expect((await read(second.device, 0, 4096))[0]).to.equal(1)
    await second.device.close()
  })
})
