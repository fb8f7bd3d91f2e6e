import { expect } from 'chai'
import { KiB } from '../../src/base/size.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
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

/** Each of these was wrong once. */

function equalUpTo(one: Disk, other: Disk, size: number): boolean {
  return one.cached.subarray(0, size).equals(other.cached.subarray(0, size))
}

/** Which bytes are read is the same whoever answers, and what `value` says. */
async function expectEverywhere(head: Head, legs: Record<string, Disk>, value: number) {
  expect((await read(head.device, 0, 4096))[0]).to.equal(value)
  for (const [name, disk] of Object.entries(legs)) expect(disk.cached[0], name).to.equal(value)
}

describe('the last leg in sync', () => {
  it('that lost its cache has the others lose the same, and clients can be told', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    await write(head.device, 0, pattern(2))
    // Both have it in their caches, b keeps it.
    legs['b']!.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    legs['a']!.restart()
    expect(head.device.losses).to.equal(1)
    expect(await outcome(flush(head.device))).to.equal('done')
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    await expectEverywhere(head, legs, 1)
    await head.device.close()
  })

  it('that could not flush has the others lose the same', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    await write(head.device, 0, pattern(2))
    legs['b']!.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    failing(legs['a']!, (operation) => operation === Operation.flush)
    expect(await outcome(flush(head.device))).to.equal('IO')
    // As a kernel drops the pages that it could not write.
    legs['a']!.cached = Buffer.from(legs['a']!.stable)
    legs['a']!.fault = () => null
    expect(await outcome(flush(head.device))).to.equal('done')
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    await expectEverywhere(head, legs, 1)
    await head.device.close()
  })
})

describe('a comparison', () => {
  it('cut short by the loss of every leg counts for nothing and keeps no lock', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncBytesPerSecond: 640 * KiB }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    legs['b']!.cached.fill(7, 20 * extentSize, 21 * extentSize)
    legs['b']!.stampCount++
    let compared = 0
    legs['b']!.hold = ({ operation, offset }: Request) => {
      if (operation === Operation.read && offset < 20 * extentSize) compared++
      return false
    }
    const attaching = outcome(head.driver.attachLeg('b'))
    await head.until('it has begun, and waits for the speed limit', () => compared === 2)
    legs['a']!.goAway()
    legs['a']!.comeBack()
    await head.until('it runs again', () => head.device.state.reason === 'b is detached')
    const attached = await attaching
    for (let at = 0; at < 20; at++) await write(head.device, at * extentSize, pattern(2))
    expect([attached, head.state('b')]).to.deep.equal(['UNAVAILABLE', 'detached'])
    await head.device.close()
  })
})

describe('the intent log', () => {
  // Before, the event loop never turned again: it is the whole run that stops.
  it('is left empty by a close while it is being cleaned', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const head = await new Head(legs, store, { intentIdleMs: 5 }).open()
    await write(head.device, 0, pattern(1))
    let cleaning = false
    legs['b']!.hold = ({ operation }) => {
      const flushes = operation === Operation.flush
      cleaning ||= flushes
      return flushes
    }
    await head.until('it is cleaned', () => cleaning)
    const closing = head.device.close()
    setImmediate(() => {
      legs['b']!.letGo()
    })
    await closing
    const again = await new Head(legs, store).open()
    expect([again.state('a'), again.state('b')]).to.deep.equal(['in-sync', 'in-sync'])
    await again.device.close()
  })

  it('that is switched off stays full after an unclean start', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const settings = { intentLog: false, intentIdleMs: 1 }
    const first = await new Head(legs, store, settings).open()
    await write(first.device, 0, pattern(1))
    first.kill()
    const second = await new Head(legs, store, settings).open()
    await second.inSync('a', 'b')
    // Longer than anything would have to be idle.
    await later(30)
    legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    void write(second.device, 0, pattern(2))
    await second.until('a alone has it', () => legs['a']!.cached[0] === 2)
    second.kill()
    legs['b']!.hold = () => false
    const third = await new Head(legs, store, settings).open()
    const { size } = third.device.facts!
    await third.inSync('a', 'b')
    expect(equalUpTo(legs['a']!, legs['b']!, size)).to.equal(true)
    await third.device.close()
  })
})

describe('a leg', () => {
  it('is not trusted while old requests may still land on it', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legTimeoutMs: 40 }).open()
    legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    await write(head.device, 0, pattern(1))
    expect(head.state('b')).to.equal('missing')
    expect(await outcome(head.driver.trustLeg('b'))).to.equal('CONFIG')
    await write(head.device, 0, pattern(2))
    legs['b']!.letGo()
    await head.inSync('a', 'b')
    await expectEverywhere(head, legs, 2)
    await head.device.close()
  })

  it('does not count for minInSync before it is durable that it is in sync', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store, { minInSync: 2 }).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = ({ operation }) => operation === Operation.write
    let acknowledged = false
    const writing = write(head.device, 0, pattern(2)).then(() => (acknowledged = true))
    await head.until('a has it', () => legs['a']!.cached[0] === 2)
    legs['b']!.hold = () => false
    const saved = superblocks(legs['a']!)
    legs['b']!.goAway()
    await head.until('it is durable that b left', () => superblocks(legs['a']!) > saved)
    let open: () => void = () => undefined
    store.gate = new Promise((resolve) => (open = resolve))
    legs['b']!.comeBack()
    await head.until('b is as good as in sync', () => filled(head, 'b'))
    await new Promise((resolve) => setImmediate(resolve))
    expect(acknowledged).to.equal(false)
    open()
    await writing
    await head.inSync('a', 'b')
    await head.device.close()
  })
})

/** How often one was written. */
function superblocks(disk: Disk): number {
  return disk.log.filter(({ offset }) => offset >= superblockOffset(disk.size, 0)).length
}

/** Nothing is copied to the leg any more, and it is not announced as in sync yet. */
function filled(head: Head, name: string): boolean {
  const { state, resync } = head.leg(name)
  return state === 'syncing' && resync === undefined
}
