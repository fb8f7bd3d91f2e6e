import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, write } from '../support/io.ts'
import { answer, disks, extentSize, Head, later, MemoryStore, outcome, pattern } from './head.ts'

describe('a volume', () => {
  it('starts again when every leg is lost while writes drain for a detaching', async () => {
    const legs = disks('a', 'b')
    const both = Object.values(legs)
    const head = await new Head(legs, new MemoryStore()).open()
    let held = 0
    for (const disk of both)
      disk.hold = ({ operation, offset }) => {
        const own = operation === Operation.write && offset === 0
        if (own) held++
        return own
      }
    const writing = outcome(write(head.device, 0, pattern(1)))
    await head.until('both are written to', () => held === both.length)
    const detaching = answer(head.driver.detachLeg('b'))
    await later(5)
    for (const disk of both) disk.goAway()
    for (const disk of both) {
      disk.hold = () => false
      disk.comeBack()
    }
    expect(await detaching).to.include('left before it could be detached')
    await head.inSync('a', 'b')
    expect(await writing).to.equal('done')
    await head.device.close()
  })
})

describe('a leg that is detached', () => {
  it("is nobody else's before the metadata under way have landed on it", async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { intentIdleMs: 5 }).open()
    const { b } = legs
    const mapsFrom = head.device.facts!.size
    let cleaning = false
    await write(head.device, 0, pattern(1))
    b!.hold = ({ operation, offset }) => {
      const page = operation === Operation.write && offset >= mapsFrom && !cleaning
      cleaning ||= page
      return page
    }
    await head.until('the log is cleaned', () => cleaning)
    let detached = false
    const detaching = head.driver.detachLeg('b').then(() => (detached = true))
    await later(30)
    expect(detached).to.equal(false)
    expect(head.state('b')).to.equal('in-sync')
    b!.letGo()
    await detaching
    expect(head.leg('b')['pending']).to.equal(0)
    await head.device.close()
  })

  it('does not wait for what its disk never answers', async () => {
    const legs = disks('a', 'b')
    const settings = { intentIdleMs: 5, legTimeoutMs: 100 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const mapsFrom = head.device.facts!.size
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset >= mapsFrom
    await head.until('the log is cleaned', () => head.leg('b')['pending'] === 1)
    expect(await answer(head.driver.detachLeg('b'))).to.include('left before')
    expect(head.state('b')).to.equal('missing')
    await write(head.device, 0, pattern(2))
    legs['b']!.letGo()
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('is not given up while metadata may land on it that its disk is slow to write', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legTimeoutMs: 100 }).open()
    const mapsFrom = head.device.facts!.size
    const { b } = legs
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    let leaving = false
    b!.hold = ({ operation, offset }) => {
      leaving ||= operation === Operation.flush
      return leaving && operation === Operation.write && offset === mapsFrom
    }
    const detaching = await answer(head.driver.detachLeg('b'))
    expect(detaching).to.include('writes to it are still under way')
    expect(head.state('b')).to.equal('detached')
    expect(b!.epoch, 'it is claimed').to.be.above(0)
    b!.letGo()
    await head.until('they are over', () => head.leg('b')['pending'] === 0)
    await head.driver.attachLeg('b', {})
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('is given up although it cannot say in itself what it is', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    let leaving = false
    legs['b']!.fault = ({ operation, offset }) => {
      leaving ||= operation === Operation.flush
      const maps = operation === Operation.write && offset >= head.device.facts!.size
      return leaving && maps ? new StorageError('IO', 'bad disk') : null
    }
    expect(await outcome(head.driver.detachLeg('b'))).to.equal('IO')
    expect(head.state('b')).to.equal('detached')
    expect(legs['b']!.epoch).to.equal(0)
    legs['b']!.fault = () => null
    await head.driver.attachLeg('b')
    await head.inSync('a', 'b')
    await head.device.close()
  })
})

describe('a leg that was detached', () => {
  it('is given up again when it is not trusted or exported after all', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const { b } = legs
    await head.driver.detachLeg('b')
    b!.cached.fill(0)
    expect(await outcome(head.driver.exportLeg('b'))).to.equal('CONFIG')
    expect([head.state('b'), b!.epoch]).to.deep.equal(['detached', 0])
    b!.fault = ({ operation, offset }) =>
      operation === Operation.write && offset > 0 ? new StorageError('IO', 'bad disk') : null
    expect(await outcome(head.driver.trustLeg('b'))).to.equal('IO')
    expect([head.state('b'), b!.epoch]).to.deep.equal(['detached', 0])
    await head.device.close()
  })

  it('and that a volume was started from is one in sync like any other', async () => {
    const legs = disks('a', 'b')
    const { b } = legs
    const first = await new Head(legs, new MemoryStore()).open()
    await first.driver.detachLeg('b', { as: 'monday' })
    await first.device.close()
    const replaced = disks('a')['a']!
    const second = await new Head({ a: replaced, b: b! }, new MemoryStore()).open()
    await second.driver.startVolume({ force: true, leg: 'b' })
    expect(second.leg('b')['label']).to.equal(undefined)
    await second.inSync('a', 'b')
    // A copy of the disk, put back into its place when more was written.
    const image = Buffer.from(b!.cached)
    await write(second.device, 0, pattern(5))
    await flush(second.device)
    await second.driver.invalidateLeg('a')
    await second.inSync('a', 'b')
    b!.goAway()
    await write(second.device, 9 * extentSize, pattern(6))
    b!.cached = Buffer.from(image)
    b!.stable = Buffer.from(image)
    b!.comeBack()
    await second.inSync('a', 'b')
    expect([b!.cached[0], b!.cached[9 * extentSize]]).to.deep.equal([5, 6])
    await second.device.close()
  })

  it('is not returned when it is changed while it is compared', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.driver.detachLeg('b')
    legs['b']!.stampCount++
    let compared = 0
    legs['b']!.hold = ({ operation, length }) => {
      return operation === Operation.read && length === extentSize && ++compared === 2
    }
    const attaching = outcome(head.driver.attachLeg('b'))
    await head.until('the beginning was compared', () => compared === 2)
    legs['b']!.cached.fill(7, 0, 4096)
    legs['b']!.stampCount++
    legs['b']!.letGo()
    expect(await attaching).to.equal('CONFIG')
    expect(head.state('b')).to.equal('detached')
    await head.device.close()
  })

  it('is not returned unasked when it was changed where the volume was written to', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.driver.detachLeg('b')
    await write(head.device, 3 * extentSize, pattern(1))
    legs['b']!.cached.fill(7, 3 * extentSize + 8192, 3 * extentSize + 12288)
    legs['b']!.stampCount++
    expect(await answer(head.driver.attachLeg('b'))).to.include(`up to ${extentSize} bytes`)
    await head.driver.attachLeg('b', { discard: true })
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[3 * extentSize + 8192]).to.equal(0)
    await head.device.close()
  })

  it('is not overwritten unasked when it has become something else', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.driver.detachLeg('b')
    legs['b']!.cached.fill(9)
    legs['b']!.stampCount++
    expect(await outcome(head.driver.attachLeg('b'))).to.equal('CONFIG')
    expect(await outcome(head.driver.exportLeg('b'))).to.equal('CONFIG')
    expect(legs['b']!.cached.every((byte) => byte === 9)).to.equal(true)
    await head.driver.attachLeg('b', { discard: true })
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('is returned by a second attempt after the first one failed half way', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.driver.detachLeg('b')
    await write(head.device, 0, pattern(1))
    legs['b']!.fault = ({ operation }) => {
      if (operation !== Operation.write) return null
      // It may have been written all the same.
      legs['b']!.stampCount++
      return new StorageError('IO', 'bad disk')
    }
    expect(await outcome(head.driver.attachLeg('b'))).to.equal('IO')
    legs['b']!.fault = () => null
    await head.driver.attachLeg('b')
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[0]).to.equal(1)
    await head.device.close()
  })

  it('is not written to when every leg is lost while it is attached', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await head.driver.detachLeg('b')
    let claims = 0
    legs['b']!.onClaim = () => {
      if (++claims === 2) legs['a']!.goAway()
      return Promise.resolve()
    }
    const attaching = outcome(head.driver.attachLeg('b'))
    expect(await attaching).to.equal('UNAVAILABLE')
    legs['a']!.comeBack()
    await head.until('it runs', () => head.driver.describe()['volume'] === 'degraded')
    expect(head.leg('b')).to.include({ state: 'detached' })
    await write(head.device, 0, pattern(1))
    await later(20)
    expect(legs['b']!.cached[0]).to.equal(0)
    await head.driver.attachLeg('b')
    await head.inSync('a', 'b')
    await head.device.close()
  })
})
