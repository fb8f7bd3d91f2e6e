import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { submit, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, failing, Head, later, MemoryStore, pattern } from './head.ts'

const dataEnd = 3 * MiB

/** Bytes of an operation that the disk carried out where data are. */
function moved(disk: Disk, operation: Operation): number {
  return disk.log
    .filter((each) => each.operation === operation && each.offset < dataEnd)
    .reduce((sum, { length }) => sum + length, 0)
}

function forget(...all: readonly Disk[]): void {
  for (const disk of all) disk.log.length = 0
}

describe('a copy', () => {
  it('reads and writes what is data, and nothing of what is zero on both sides', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    await write(head.device, 5 * extentSize, pattern(1, 2 * extentSize))
    forget(a, b)
    await head.driver.invalidateLeg('b')
    await head.inSync('a', 'b')
    expect([moved(a, Operation.read), moved(b, Operation.write)]).to.deep.equal([
      2 * extentSize,
      2 * extentSize,
    ])
    expect(moved(b, Operation.writeZeroes)).to.equal(0)
    expect(head.lastResync('b')).to.include({ kind: 'full', bytesMoved: 2 * extentSize })
    await head.device.close()
  })

  it('makes zeroes of what is zero on the source alone, whoever can tell', async () => {
    for (const tells of [true, false]) {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore()).open()
      const { a, b } = legs as { a: Disk; b: Disk }
      await write(head.device, 0, pattern(1, 4096))
      b.cached.fill(7, 0, 16 * extentSize)
      a.tellsZeroes = tells
      forget(b)
      await head.driver.invalidateLeg('b')
      await head.inSync('a', 'b')
      expect(b.cached.subarray(0, dataEnd).equals(a.cached.subarray(0, dataEnd))).to.equal(true)
      expect(moved(b, Operation.write)).to.be.at.most(extentSize)
      await head.device.close()
    }
  })

  it('zeroes first, so that a leg that is full has room for the rest', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { b } = legs as { b: Disk }
    await write(head.device, 8 * extentSize, pattern(1, 8 * extentSize))
    b.goAway()
    await write(head.device, 0, pattern(2, 4 * extentSize))
    await submit(head.device, Operation.writeZeroes, 8 * extentSize, 8 * extentSize)
    b.fault = ({ operation, offset, length }) => {
      if (operation !== Operation.write || offset >= dataEnd) return null
      const used = b.cached.subarray(0, dataEnd).reduce((sum, byte) => sum + (byte ? 1 : 0), 0)
      const full = used + length > 8 * extentSize
      return full ? new StorageError('NO_SPACE', 'the disk is full') : null
    }
    b.comeBack()
    await head.inSync('a', 'b')
    expect(head.history().filter(({ text }) => text.includes('full'))).to.deep.equal([])
    await head.device.close()
  })

  it('of a write that comes meanwhile is not undone by what was said before it', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs as { a: Disk; b: Disk }
    let asked = false
    a.hold = ({ operation }) => {
      asked ||= operation === Operation.status
      return operation === Operation.status
    }
    await head.driver.invalidateLeg('b')
    await head.until('it is asked what is zero', () => asked)
    const writing = write(head.device, 3 * extentSize, pattern(9))
    await later(5)
    a.letGo()
    await writing
    await head.inSync('a', 'b')
    expect(b.cached[3 * extentSize]).to.equal(9)
    await head.device.close()
  })
})

describe('what cannot be read of a copy', () => {
  it('costs that page alone, is named, and is copied once it can be read or written', async () => {
    for (const mended of ['read', 'written']) {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore()).open()
      const { a, b } = legs as { a: Disk; b: Disk }
      await write(head.device, 0, pattern(1, 16 * extentSize))
      const bad = 5 * extentSize + 8 * KiB
      let broken = true
      a.fault = ({ operation, offset, length }) => {
        const hit = offset <= bad && bad < offset + length
        if (operation === Operation.write && hit) broken = false
        return broken && operation === Operation.read && hit
          ? new StorageError('IO', 'bad disk')
          : null
      }
      await head.driver.invalidateLeg('b')
      const said = `4096 bytes at ${bad} cannot be read from a`
      await head.until('it is named', () => head.leg('b').reason.includes(said))
      expect(head.state('b')).to.equal('syncing')
      expect(b.cached.subarray(0, bad).equals(a.cached.subarray(0, bad))).to.equal(true)
      forget(b)
      await later(60)
      expect(moved(b, Operation.write), 'nothing is copied again').to.equal(0)
      if (mended === 'read') broken = false
      else await write(head.device, bad, pattern(3))
      await head.inSync('a', 'b')
      expect(b.cached[bad]).to.equal(mended === 'read' ? 1 : 3)
      expect(head.history().filter(({ text }) => text.includes(said))).to.have.length(1)
      await head.device.close()
    }
  })

  it('is copied from another leg that can read it, which mends the first', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore(), {}, [], ['b']).open()
    const { a, c } = legs as { a: Disk; c: Disk }
    await write(head.device, 0, pattern(1, extentSize))
    let broken = true
    failing(a, (operation, offset) => {
      if (operation === Operation.write && offset === 0) broken = false
      return broken && operation === Operation.read && offset === 0
    })
    await head.driver.invalidateLeg('c')
    await head.inSync('a', 'b', 'c')
    expect(c.cached[0]).to.equal(1)
    await head.until('it is mended', () => !broken)
    await head.device.close()
  })
})

describe('what was copied to a leg whose link drops', () => {
  it('is not copied again while the leg kept its cache', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncBytesPerSecond: 20 * MiB, resyncWindow: 1 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const { b } = legs as { b: Disk }
    await write(head.device, 0, pattern(1, 32 * extentSize))
    await head.driver.invalidateLeg('b')
    forget(b)
    await head.until('some is copied', () => moved(b, Operation.write) >= 16 * extentSize)
    b.goAway()
    b.comeBack()
    await head.inSync('a', 'b')
    expect(moved(b, Operation.write)).to.be.at.most(34 * extentSize)
    await head.device.close()
  })

  it('is kept by time, for a leg that loses its cache each time', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncBytesPerSecond: 20 * MiB, resyncWindow: 1, resyncCheckpointMs: 10 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const { b } = legs as { b: Disk }
    await write(head.device, 0, pattern(1, 32 * extentSize))
    await head.driver.invalidateLeg('b')
    forget(b)
    await head.until('some is copied', () => moved(b, Operation.write) >= 16 * extentSize)
    b.powerCut()
    b.comeBack()
    await head.inSync('a', 'b')
    expect(moved(b, Operation.write)).to.be.at.most(44 * extentSize)
    await head.device.close()
  })
})
