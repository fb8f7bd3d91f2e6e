import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { flush, write } from '../support/io.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { disks, Head, later, MemoryStore, outcome, pattern } from './head.ts'

const atStart = ({ operation, offset }: Request): boolean =>
  operation === Operation.write && offset === 0

describe('a volume without an intent log', () => {
  it('counts every extent as hot also after a growth that came to nothing', async () => {
    const legs = disks('a', 'b', 'c')
    const store = new MemoryStore()
    const head = await new Head(legs, store, { intentLog: false }).open()
    const { a, b, c } = legs
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    a!.hold = atStart
    const drains = write(head.device, 0, pattern(2))
    for (const disk of [a!, b!, c!]) disk.grow(8 * MiB)
    // It is made ready, and waits until nothing is under way. Then a leg leaves.
    await later(100)
    c!.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    a!.letGo()
    a!.hold = () => false
    await drains
    await later(50)
    expect(head.device.facts!.size).to.be.below(4 * MiB)
    // A write that b does not have yet when the head dies.
    b!.hold = atStart
    const last = outcome(write(head.device, 0, pattern(3)))
    await head.until('a has it', () => a!.cached[0] === 3)
    head.kill()
    void last
    b!.hold = () => false
    const next = await new Head({ a: a!, b: b!, c: c! }, store, { intentLog: false }, ['c']).open()
    await next.inSync('a', 'b')
    expect(a!.cached[0], 'both are in sync').to.equal(b!.cached[0]!)
    await next.device.close()
  })

  it('does the same where the leg leaves while its log is being emptied', async () => {
    const legs = disks('a', 'b', 'c')
    const store = new MemoryStore()
    const head = await new Head(legs, store, { intentLog: false }).open()
    const { a, b, c } = legs
    await write(head.device, 0, pattern(1))
    a!.hold = atStart
    const drains = write(head.device, 0, pattern(2))
    for (const disk of [a!, b!, c!]) disk.grow(8 * MiB)
    // It is made ready, and waits until nothing is under way.
    await later(100)
    let emptying = false
    c!.hold = ({ operation }) => operation === Operation.flush && (emptying = true)
    a!.letGo()
    a!.hold = () => false
    await drains
    await head.until('the log is being emptied', () => emptying)
    c!.goAway()
    c!.hold = () => false
    await head.until('c left', () => head.state('c') === 'missing')
    await write(head.device, 8192, pattern(1))
    expect(head.device.facts!.size).to.be.below(4 * MiB)
    b!.hold = atStart
    const last = outcome(write(head.device, 0, pattern(3)))
    await head.until('a has it', () => a!.cached[0] === 3)
    head.kill()
    void last
    b!.hold = () => false
    const next = await new Head({ a: a!, b: b!, c: c! }, store, { intentLog: false }, ['c']).open()
    await next.inSync('a', 'b')
    expect(a!.cached[0], 'both are in sync').to.equal(b!.cached[0]!)
    await next.device.close()
  })

  it('lets no write in where it fails to grow, before every extent is hot again', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const head = await new Head(legs, store, { intentLog: false }).open()
    const { a, b } = legs
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    let moving = false
    a!.hold = ({ operation, offset }) =>
      operation === Operation.write && offset > 4 * MiB && (moving = true)
    for (const disk of [a!, b!]) disk.grow(8 * MiB)
    await head.until('the metadata of a are about to be moved', () => moving)
    // A write that waits for that, and that b does not have when the head dies.
    void outcome(write(head.device, 0, pattern(2)))
    a!.fault = (request) => {
      if (atStart(request)) head.kill()
      return null
    }
    b!.goAway()
    a!.letGo()
    a!.hold = () => false
    await head.until('a has it', () => a!.cached[0] === 2)
    a!.fault = () => null
    const next = await new Head(legs, store, { intentLog: false }).open()
    await next.inSync('a', 'b')
    expect(a!.cached[0], 'both are in sync').to.equal(b!.cached[0]!)
    await next.device.close()
  })

  for (const how of ['in the first write of a run', 'in a later one'])
    it(`fills a leg that lost its cache ${how}, before that has settled`, async () => {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore(), { intentLog: false }).open()
      const { a, b } = legs
      if (how.startsWith('in a later')) {
        await write(head.device, 8192, pattern(1))
        await flush(head.device)
      }
      a!.hold = atStart
      const writing = outcome(write(head.device, 0, pattern(2)))
      await head.until('b has it', () => b!.cached[0] === 2)
      await later(10)
      b!.restart()
      a!.letGo()
      a!.hold = () => false
      expect(await writing).to.equal('done')
      await head.inSync('a', 'b')
      expect([a!.cached[0], b!.cached[0]]).to.deep.equal([2, 2])
      await head.device.close()
    })

  it('copies nothing to a leg that lost its cache when all was flushed', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { intentLog: false }).open()
    await write(head.device, 0, pattern(2))
    await flush(head.device)
    legs['b']!.restart()
    expect(head.state('b')).to.equal('in-sync')
    await head.device.close()
  })
})
