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

describe('a resync', () => {
  it('copies the beginning of an extent again that its leg has lost', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncChunkBytes: 16 * KiB, resyncWindow: 1, intentIdleMs: 5 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    await write(head.device, 0, pattern(1, extentSize))
    legs['b']!.goAway()
    await write(head.device, 0, pattern(2, extentSize))
    await head.until('the log is clean', () => head.driver.describe()['hotExtents'] === 0)
    let reading = false
    legs['a']!.hold = ({ operation, offset }) => {
      const last = operation === Operation.read && offset === 48 * KiB
      reading ||= last
      return last
    }
    legs['b']!.comeBack()
    await head.until('most of it was copied', () => reading)
    legs['b']!.restart()
    legs['a']!.letGo()
    await head.inSync('a', 'b')
    expect(equalUpTo(legs['a']!, legs['b']!, extentSize)).to.equal(true)
    await head.device.close()
  })
})

describe('a repair', () => {
  it('reaches legs that are not in sync as well', async () => {
    for (const word of ['missing', 'syncing']) {
      const legs = disks('a', 'b', 'c')
      const settings = word === 'syncing' ? { resyncChunkBytes: 16 * KiB, resyncWindow: 1 } : {}
      const head = await new Head(legs, new MemoryStore(), settings, [], ['b']).open()
      await write(head.device, 0, pattern(1))
      await write(head.device, 9 * extentSize, pattern(1))
      await flush(head.device)
      // What no leg knows of: a has something else, and so has c, which copied it.
      for (const name of ['a', 'c']) legs[name]!.cached.fill(7, 0, 4096)
      legs['c']!.goAway()
      await write(head.device, 9 * extentSize, pattern(2))
      if (word === 'syncing') {
        let held = false
        legs['a']!.hold = ({ operation, offset }) => {
          const source = operation === Operation.read && offset === 9 * extentSize
          held ||= source
          return source
        }
        legs['c']!.comeBack()
        await head.until('it is copied to', () => held)
        legs['a']!.hold = ({ operation, offset }) =>
          operation === Operation.read && offset === 9 * extentSize
      }
      const verifying = head.driver.verify({ repairFrom: 'b' })
      await head.until('it was repaired', () => legs['a']!.cached[0] === 1)
      legs['a']!.letGo()
      await verifying
      if (word === 'missing') legs['c']!.comeBack()
      await head.inSync('a', 'b', 'c')
      for (const [name, disk] of Object.entries(legs))
        expect(disk.cached[0], `${name}, c was ${word}`).to.equal(1)
      await head.device.close()
    }
  })
})

describe('the intent log', () => {
  it('that cannot be cleaned does not keep writes for ever', async () => {
    const legs = disks('a')
    const settings = { hotExtentsMax: 2, intentIdleMs: 20, suspendMs: 1_000_000 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    failing(legs['a']!, (operation) => operation === Operation.flush)
    const writes: Promise<string>[] = []
    for (let at = 0; at < 8; at++)
      writes.push(outcome(write(head.device, at * extentSize, pattern(at))))
    let answered = 0
    for (const write of writes) void write.then(() => answered++)
    await head.until('all are answered', () => answered === writes.length)
    legs['a']!.fault = () => null
    await head.device.close()
  })

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

  it('is not said to be invalidated before that is durable', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store).open()
    await write(head.device, 0, pattern(1))
    const open = store.shut()
    const asked = outcome(head.driver.invalidateLeg('b'))
    await head.until('b left', () => head.state('b') === 'missing')
    legs['a']!.goAway()
    expect(await asked).to.equal('UNAVAILABLE')
    open()
    legs['a']!.comeBack()
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('is not said to be in sync without a word while the volume does not run', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    // Both are there, and neither can be read.
    for (const disk of Object.values(legs)) failing(disk, () => true)
    const flushed = outcome(flush(head.device))
    await head.until('it does not run', () => head.driver.describe()['volume'] === 'suspended')
    const said = ['a', 'b'].map((name) => head.leg(name))
    for (const { reason } of said.filter(({ state }) => state === 'in-sync'))
      expect(reason).to.include('the volume does not run')
    expect(said.some(({ state }) => state === 'in-sync')).to.equal(true)
    for (const disk of Object.values(legs)) disk.fault = () => null
    await flushed
    await head.device.close()
  })

  it('is trusted while writes wait for it', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore(), { minInSync: 2 }).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    legs['c']!.hold = ({ operation }) => operation === Operation.write
    const writing = outcome(write(head.device, 0, pattern(1)))
    await head.until('c has it', () => (head.leg('c')['pending'] as number) > 0)
    legs['c']!.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    await head.driver.trustLeg('b')
    expect(await writing).to.equal('done')
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('that is trusted gets what was being written when the operator said so', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    legs['a']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    const writing = write(head.device, 0, pattern(2))
    await head.until('it is under way', () => (head.leg('a')['pending'] as number) > 0)
    const trusting = head.driver.trustLeg('b')
    legs['a']!.letGo()
    await Promise.all([writing, trusting])
    await head.inSync('a', 'b')
    await expectEverywhere(head, legs, 2)
    await head.device.close()
  })

  it('that is trusted gets what was written while that waited for another command', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    await head.driver.detachLeg('c')
    legs['c']!.hold = () => true
    const attaching = head.driver.attachLeg('c')
    const trusting = ['b', 'b'].map((name) => outcome(head.driver.trustLeg(name)))
    await write(head.device, 0, pattern(2))
    legs['c']!.letGo()
    await attaching
    // Asked for twice: both count from when they were asked for.
    expect((await Promise.all(trusting))[0]).to.equal('done')
    await head.inSync('a', 'b', 'c')
    await expectEverywhere(head, legs, 2)
    await head.device.close()
  })

  it('is not trusted with what it lost while that waited for another command', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    await head.driver.detachLeg('c')
    await write(head.device, 0, pattern(2))
    // Its owner brings it up to date, and flushes nothing.
    legs['b']!.cached.set(pattern(2))
    legs['c']!.hold = () => true
    const attaching = head.driver.attachLeg('c')
    const trusting = outcome(head.driver.trustLeg('b'))
    legs['b']!.restart()
    legs['c']!.letGo()
    await attaching
    expect(await trusting).to.equal('CONFIG')
    await head.driver.attachLeg('b', { discard: true })
    await head.inSync('a', 'b', 'c')
    await expectEverywhere(head, legs, 2)
    await head.device.close()
  })

  it('that is not trusted after all lacks on disk what it lacked before', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const head = await new Head(legs, store, { intentIdleMs: 5 }).open()
    const { a, b } = legs
    await write(head.device, 0, pattern(1))
    b!.goAway()
    for (const at of [0, 5]) await write(head.device, at * extentSize, pattern(2))
    await head.until('the log is clean', () => head.driver.describe()['hotExtents'] === 0)
    failing(b!, (operation) => operation === Operation.write)
    b!.comeBack()
    await head.until('it cannot come back', () => head.state('b') === 'failed')
    a!.hold = ({ operation, offset }) => operation === Operation.write && offset === 5 * extentSize
    const writing = outcome(write(head.device, 5 * extentSize, pattern(3)))
    await head.until('it is under way', () => (head.leg('a')['pending'] as number) > 0)
    const trusting = outcome(head.driver.trustLeg('b'))
    a!.letGo()
    expect([await writing, await trusting]).to.deep.equal(['done', 'IO'])
    head.kill()
    b!.fault = () => null
    const next = await new Head(legs, store).open()
    await next.inSync('a', 'b')
    await expectEverywhere(next, legs, 2)
    await next.device.close()
  })

  it('that dropped out of a resync is known however often others left since', async () => {
    const legs = disks('a', 'b', 'c')
    const settings = { legRetryMs: 1, legRetryMsMax: 1 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    legs['b']!.goAway()
    await write(head.device, 0, pattern(1))
    // Others left and came back before, so that it returns at a later generation than it left at.
    legs['c']!.goAway()
    await head.until('c left', () => head.state('c') === 'missing')
    legs['c']!.comeBack()
    await head.inSync('c')
    failing(legs['b']!, (operation, offset) => operation === Operation.write && offset === 0)
    legs['b']!.comeBack()
    await head.until('b failed', () => head.state('b') === 'failed')
    legs['b']!.goAway()
    for (let turn = 0; turn < 40; turn++) {
      legs['c']!.goAway()
      await head.until('c left', () => head.state('c') === 'missing')
      legs['c']!.comeBack()
      await head.inSync('c')
    }
    legs['b']!.fault = () => null
    legs['b']!.comeBack()
    await head.inSync('a', 'b', 'c')
    expect(head.lastResync('b')).to.include({ kind: 'partial' })
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
    const open = store.shut()
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
