import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockBytes } from '../../src/mirror/layout.ts'
import { read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, failing, Head, later, MemoryStore, pattern } from './head.ts'

/** Bytes that were read of where data can be. */
function bytesRead(disk: Disk): number {
  return disk.log
    .filter(({ operation, offset }) => operation === Operation.read && offset < 3 * MiB)
    .reduce((sum, { length }) => sum + length, 0)
}

function looking(head: Head): Record<string, unknown> | null {
  return head.driver.describe()['looking'] as Record<string, unknown> | null
}

describe('a new volume', () => {
  it('is there without a byte being read of legs that have no data by their own word', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.inSync('a', 'b')
    for (const disk of Object.values(legs)) expect(bytesRead(disk)).to.equal(0)
    expect(looking(head)).to.equal(null)
    await head.device.close()
  })

  it('finds data wherever they are on legs that cannot tell', async () => {
    for (const at of [0, 4096, MiB - 4096, 2 * MiB + 4096]) {
      const legs = disks('a', 'b')
      for (const disk of Object.values(legs)) disk.tellsZeroes = false
      legs['b']!.cached.fill(9, at, at + 1)
      const head = await new Head(legs, new MemoryStore()).open()
      await head.inSync('a', 'b')
      expect((await read(head.device, at, 512))[0]).to.equal(9)
      expect(head.lastResync('a')!.source).to.equal('b')
      await head.device.close()
    }
  })

  it('whose legs must be read shows how far that is, and keeps nobody else', async () => {
    const legs = disks('a', 'b')
    for (const disk of Object.values(legs)) {
      disk.tellsZeroes = false
      disk.hold = ({ operation, offset, length }) =>
        operation === Operation.read && offset < MiB && length > superblockBytes
    }
    const head = new Head(legs, new MemoryStore())
    const opening = head.open()
    await head.until('it reads', () => legs['a']!.log.length > 2 && looking(head) !== null)
    // The time that it takes is that of the test's own clock.
    await later(1100)
    for (const disk of Object.values(legs)) disk.letGo(({ offset }) => offset > 0)
    await head.until('it has read some', () => Number(looking(head)!['bytesDone']) >= 0)
    expect(looking(head)).to.include.keys('percent', 'secondsLeft', 'bytesLeft')
    expect(head.device.state.word).to.equal('opening')
    expect(head.device.state.reason).to.include('looking whether')
    for (const disk of Object.values(legs)) disk.letGo()
    await opening
    await head.inSync('a', 'b')
    // It is how every new volume of such disks begins.
    expect(head.warnings).to.deep.equal([])
    await write(head.device, 0, pattern(1))
    await head.device.close()
  })

  it('whose legs are being read is closed at once', async () => {
    const legs = disks('a', 'b')
    for (const disk of Object.values(legs)) disk.tellsZeroes = false
    const head = new Head(legs, new MemoryStore())
    let reads = 0
    for (const disk of Object.values(legs))
      disk.hold = ({ operation, length }) =>
        operation === Operation.read && length > superblockBytes && ++reads > 1
    const opening = head.open()
    await head.until('it reads', () => reads > 2)
    const closing = head.device.close()
    for (const disk of Object.values(legs)) disk.letGo()
    await closing
    await opening
    for (const disk of Object.values(legs))
      expect(disk.log.some(({ operation }) => operation === Operation.write)).to.equal(false)
  })

  it('that was cut off before one leg had a superblock fills that leg', async () => {
    // The head dies in the middle of it; or the leg fails, and the next try finds the other alone.
    for (const how of ['crash', 'error', 'forced']) {
      const legs = disks('a', 'b')
      const [a, b] = [legs['a']!, legs['b']!]
      const store = new MemoryStore()
      if (how === 'error') failing(b, (operation) => operation === Operation.write)
      else b.hold = ({ operation }) => operation === Operation.write
      const first = new Head(legs, store)
      const opening = first.open()
      const wrote = ({ operation }: Disk['log'][number]): boolean => operation === Operation.write
      await first.until('a has superblocks', () => a.log.filter(wrote).length > 2)
      let head = first
      if (how === 'error') b.fault = () => null
      else {
        first.kill()
        b.hold = () => false
        head = new Head(legs, store, {}, how === 'forced' ? ['b'] : [])
      }
      await (head === first ? opening : head.open())
      if (how === 'forced') {
        await head.driver.startVolume({ force: true })
        b.comeBack()
      }
      await head.inSync('a', 'b')
      await head.device.close()
    }
  })
})
