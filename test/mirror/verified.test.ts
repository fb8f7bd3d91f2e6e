import { expect } from 'chai'
import { afterComparing, afterCopying } from '../../src/mirror/data/differences.ts'
import {
  isVerified,
  type KnownDifference,
  type Verified,
  type VolumeRecord,
} from '../../src/mirror/record.ts'
import type { MirrorSettings } from '../../src/mirror/settings.ts'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { flush, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, MemoryStore, outcome, pattern } from './head.ts'

/** What `status` shows of it. */
function shown(head: Head) {
  return head.driver.describe() as unknown as Omit<Verified, 'completedAt'> & {
    readonly volume: string
    readonly verifiedAt: number | null
    readonly verifyNextAt: number | null
    readonly differencesHint?: string
    readonly verify: { readonly bytesDone: number } | null
  }
}

const range = (from: number, to: number, ...groups: string[][]): KnownDifference => ({
  from,
  to,
  bytes: to - from,
  groups,
})

describe('what a verify found different', () => {
  async function differing(settings: Partial<MirrorSettings> = {}) {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const head = await new Head(legs, store, settings).open()
    await write(head.device, 0, pattern(1))
    legs['b']!.cached.fill(9, extentSize + 512, extentSize + 1536)
    legs['b']!.cached.copy(legs['b']!.stable)
    await head.driver.verify({ repair: true })
    return { legs, store, head }
  }

  it('degrades the volume, and is told with its bytes and what to type', async () => {
    const { head } = await differing()
    expect(shown(head).volume).to.equal('degraded')
    expect(shown(head).differences).to.deep.equal([
      range(extentSize + 512, extentSize + 1536, ['a'], ['b']),
    ])
    expect(head.device.state.word).to.equal('degraded')
    expect(head.device.state.reason).to.equal(`a and b differ in 1024 bytes at ${extentSize + 512}`)
    expect(shown(head).differencesHint).to.include('dst verify m --repair-from LEG')
    expect(head.history().at(-1)!.text).to.include('a and b differ in 1024 bytes')
    await head.device.close()
  })

  it('is known after a restart, and with a new state directory', async () => {
    const { legs, store, head } = await differing()
    await head.device.close()
    for (const kept of [store, new MemoryStore()]) {
      const next = await new Head(legs, kept).open()
      await next.until('it is degraded', () => shown(next).volume === 'degraded')
      expect(shown(next).differences).to.have.length(1)
      await next.device.close()
    }
  })

  it('is known when the head dies right after the verify', async () => {
    const { legs, store, head } = await differing()
    head.kill()
    const next = await new Head(legs, store).open()
    await next.until('it is degraded', () => shown(next).volume === 'degraded')
    await next.device.close()
  })

  it('is mended by a verify that repairs', async () => {
    const { head } = await differing()
    await head.driver.verify({ repairFrom: 'a' })
    expect(shown(head).differences).to.deep.equal([])
    expect(shown(head).volume).to.equal('healthy')
    expect(head.device.state.word).to.equal('online')
    await head.device.close()
  })

  it('is mended by a verify that finds nothing any more', async () => {
    const { head } = await differing()
    await write(head.device, extentSize, pattern(3))
    await head.driver.verify()
    expect(shown(head).volume).to.equal('healthy')
    await head.device.close()
  })

  it('is mended by copying one of two legs whole', async () => {
    const { head } = await differing()
    await head.driver.invalidateLeg('b')
    await head.until('it is healthy', () => shown(head).volume === 'healthy')
    expect(head.lastResync('b')).to.include({ kind: 'full', outcome: 'complete' })
    await head.device.close()
  })

  it('is mended by copying a leg whole, though that was interrupted', async () => {
    const settings = { resyncWindow: 1, resyncChunkBytes: extentSize, resyncCheckpointBytes: 1 }
    const { head, legs } = await differing(settings)
    const b = legs['b']!
    await write(head.device, 8 * extentSize, pattern(1))
    let reached: () => void = () => undefined
    const late = new Promise<void>((resolve) => (reached = resolve))
    b.hold = ({ operation, offset }) => {
      const isLate = operation === Operation.write && offset === 8 * extentSize
      if (isLate) reached()
      return isLate
    }
    await head.driver.invalidateLeg('b')
    await late
    b.hold = () => false
    b.goAway()
    await head.until('b is away', () => head.state('b') === 'missing')
    b.comeBack()
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'partial', outcome: 'complete' })
    expect(shown(head).volume).to.equal('healthy')
    await head.device.close()
    expect(b.cached.subarray(0, MiB).equals(legs['a']!.cached.subarray(0, MiB))).to.equal(true)
  })

  it('stays where the leg that is left could not be repaired', async () => {
    const { head, legs } = await differing()
    const b = legs['b']!
    let reached: () => void = () => undefined
    const repairing = new Promise<void>((resolve) => (reached = resolve))
    const isRepair = ({ operation, offset, length }: Request): boolean =>
      operation === Operation.write && offset < 2 * extentSize && offset + length > extentSize
    b.hold = (request) => {
      if (isRepair(request)) reached()
      return isRepair(request)
    }
    const verifying = head.driver.verify({ repairFrom: 'a' })
    await repairing
    legs['a']!.goAway()
    await head.until('a is away', () => head.state('a') === 'missing')
    b.fault = (request) => (isRepair(request) ? new StorageError('IO', 'bad disk') : null)
    b.letGo()
    await verifying
    expect(shown(head).differences).to.have.length(1)
    b.fault = () => null
    legs['a']!.comeBack()
    await head.inSync('a', 'b')
    expect(shown(head).volume).to.equal('degraded')
    await head.driver.verify({ repairFrom: 'b' })
    expect(shown(head).volume).to.equal('healthy')
    await head.device.close()
  })

  it('is not mended by a copy that an older version made whole, before it was found', async () => {
    const { legs, store, head } = await differing()
    await head.device.close()
    const record = JSON.parse((await store.load('m'))!) as VolumeRecord
    // That one does not know the field, and leaves it as it is.
    for (const member of record.members) if (member.name === 'b') member.whole = true
    await store.save('m', JSON.stringify(record))
    const next = await new Head(legs, store).open()
    await next.inSync('a', 'b')
    legs['b']!.goAway()
    await next.until('b is away', () => next.state('b') === 'missing')
    legs['b']!.comeBack()
    await next.inSync('a', 'b')
    expect(next.lastResync('b')!.kind).to.equal('partial')
    expect(shown(next).differences).to.have.length(1)
    await next.device.close()
  })

  it('is gone with a leg that the configuration has no more', async () => {
    const { legs, store, head } = await differing()
    await head.device.close()
    const next = await new Head({ a: legs['a']! }, store).open()
    await next.inSync('a')
    expect(shown(next).differences).to.deep.equal([])
    expect(shown(next).volume).to.equal('healthy')
    await next.device.close()
  })

  it('of a leg that is away stays, whatever the others say', async () => {
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    legs['c']!.cached.fill(9, extentSize + 512, extentSize + 1536)
    legs['c']!.cached.copy(legs['c']!.stable)
    await head.driver.verify({ repair: false })
    const known = [range(extentSize + 512, extentSize + 1536, ['a', 'b'], ['c'])]
    expect(shown(head).differences).to.deep.equal(known)
    legs['c']!.goAway()
    await head.until('c is away', () => head.state('c') === 'missing')
    await head.driver.verify({ repairFrom: 'a' })
    expect(shown(head).differences).to.deep.equal(known)
    legs['c']!.comeBack()
    await head.inSync('a', 'b', 'c')
    expect(shown(head).volume).to.equal('degraded')
    await head.driver.verify({ repairFrom: 'a' })
    expect(shown(head).volume).to.equal('healthy')
    await head.device.close()
  })

  it('is gone with the leg that differed', async () => {
    const { head } = await differing()
    await (await head.driver.removeLeg('b')).close()
    expect(shown(head).differences).to.deep.equal([])
    await head.device.close()
  })
})

describe('a leg that loses its cache while it is compared', () => {
  /** Whatever was written last is on no stable storage yet. */
  async function written(...names: string[]) {
    const legs = disks(...names)
    // One piece at a time, or another one sees first that too few legs are left.
    const head = await new Head(legs, new MemoryStore(), { resyncWindow: 1 }).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    await write(head.device, 0, pattern(2))
    return { legs, head }
  }

  /** Resolves when the disk is asked for data, which it keeps until it is let go. */
  function asked(disk: Disk): Promise<void> {
    return new Promise((resolve) => {
      disk.hold = ({ operation, offset }) => {
        const isData = operation === Operation.read && offset === 0
        if (isData) resolve()
        return isData
      }
    })
  }

  async function expectTwo(head: Head, legs: Record<string, Disk>) {
    for (const disk of Object.values(legs)) disk.letGo()
    await head.inSync(...Object.keys(legs))
    expect(shown(head).differences).to.deep.equal([])
    expect(shown(head).volume).to.equal('healthy')
    await head.device.close()
    for (const { cached } of Object.values(legs)) expect(cached[0]).to.equal(2)
  }

  for (const options of [{ repair: false }, { repairFrom: 'b' }])
    it(`is no difference, and repairs nothing: ${JSON.stringify(options)}`, async () => {
      const { legs, head } = await written('a', 'b')
      const reading = asked(legs['b']!)
      const verifying = head.driver.verify(options)
      await reading
      legs['b']!.hold = () => false
      legs['b']!.restart()
      const { complete, bytesDifferent } = await verifying
      expect({ complete, bytesDifferent }).to.deep.equal({ complete: false, bytesDifferent: 0 })
      await expectTwo(head, legs)
    })

  it('is no difference where it answered before it was known', async () => {
    const { legs, head } = await written('a', 'b')
    const { a, b } = legs as { a: Disk; b: Disk }
    const reading = asked(a)
    b.stable.copy(b.cached)
    const verifying = head.driver.verify({ repairFrom: 'b' })
    await reading
    await head.until('b has answered', () => head.leg('b')['pending'] === 0)
    b.restart()
    await head.until('b is away', () => head.state('b') !== 'in-sync')
    a.letGo()
    expect((await verifying).bytesDifferent).to.equal(0)
    await expectTwo(head, legs)
  })

  it('is no part of a majority', async () => {
    const { legs, head } = await written('a', 'b', 'c')
    const reading = asked(legs['b']!)
    const verifying = head.driver.verify()
    await reading
    legs['b']!.hold = () => false
    legs['b']!.restart()
    legs['c']!.restart()
    expect((await verifying).bytesRepaired).to.equal(0)
    await expectTwo(head, legs)
  })
})

describe('what is known of differences', () => {
  it('is replaced where a range was compared again', () => {
    const known = [range(0, 100, ['a'], ['b']), range(200, 300, ['a'], ['b'])]
    const found = [range(60, 70, ['a', 'c'], ['b'])]
    const compared = { from: 50, to: 250, legs: ['a', 'b', 'c'] }
    expect(afterComparing(known, compared, found)).to.deep.equal([
      range(0, 50, ['a'], ['b']),
      range(60, 70, ['a', 'c'], ['b']),
      range(250, 300, ['a'], ['b']),
    ])
  })

  it('stays for a leg that was not compared', () => {
    const known = [range(0, 50, ['a', 'b'], ['c'])]
    const compared = { from: 0, to: 100, legs: ['a', 'b'] }
    expect(afterComparing(known, compared, [range(40, 60, ['a'], ['b'])])).to.deep.equal([
      range(0, 50, ['a', 'b'], ['c']),
      range(50, 60, ['a'], ['b']),
    ])
  })

  it('has an end: of many ranges the nearest become one, and none is lost', () => {
    let known: readonly KnownDifference[] = []
    for (let at = 0; at < 200; at++) {
      const from = at * 1000 + (at % 7)
      const found = [range(from, from + 10, ['a'], ['b'])]
      known = afterComparing(known, { from, to: from + 10, legs: ['a', 'b'] }, found)
    }
    expect(known).to.have.length(32)
    expect(known.reduce((sum, { bytes }) => sum + bytes, 0)).to.equal(2000)
    const verified = { completedAt: null, countedFrom: 0, position: 0, differences: known }
    expect(isVerified(JSON.parse(JSON.stringify(verified)))).to.equal(true)
  })

  it('is mended by a copy only where all its sources agree', () => {
    const known = [range(0, 10, ['a', 'b'], ['c'])]
    expect(afterCopying(known, 'c', ['a', 'b'])).to.deep.equal([])
    expect(afterCopying(known, 'a', ['b', 'c'])).to.deep.equal([range(0, 10, ['b'], ['c'], ['a'])])
    // One that was not compared may have been the source.
    expect(afterCopying(known, 'c', ['a', 'b', 'd'])).to.have.length(1)
  })

  it('is not believed where it makes no sense', () => {
    const good: Verified = { completedAt: 1, countedFrom: 1, position: 0, differences: [] }
    const bad: unknown[] = [
      null,
      [],
      { ...good, position: -1 },
      { ...good, completedAt: 'today' },
      { ...good, differences: [{ from: 5, to: 5, bytes: 0, groups: [['a'], ['b']] }] },
      { ...good, differences: [range(0, 5, ['a'])] },
      { ...good, differences: [{ ...range(0, 5, ['a'], ['b']), bytes: 6 }] },
      { ...good, differences: [range(0, 5, ['a'], ['b'.repeat(101)])] },
      { ...good, differences: Array.from({ length: 33 }, () => range(0, 5, ['a'], ['b'])) },
    ]
    expect(isVerified(good)).to.equal(true)
    for (const value of bad) expect(isVerified(value), JSON.stringify(value)).to.equal(false)
  })
})

describe('a scheduled verify', () => {
  const often = { verifyEveryMs: 200 }
  const verifies = (head: Head) => head.history().filter(({ kind }) => kind === 'verify')

  it('runs by itself, and status says when it did and when it will', async () => {
    const daily = { verifyEveryMs: 86_400_000 }
    const head = await new Head(disks('a', 'b'), new MemoryStore(), daily).open()
    // It is counted from when the volume was first looked at.
    await head.clock.skip(daily.verifyEveryMs)
    await head.until('it is counted', () => shown(head).verifyNextAt !== null)
    await head.clock.skip(daily.verifyEveryMs)
    await head.until('one is over', () => shown(head).verifiedAt !== null)
    const { verifiedAt, verifyNextAt } = shown(head)
    expect(verifyNextAt! - verifiedAt!).to.equal(daily.verifyEveryMs)
    expect(verifies(head)[0]!.resync).to.include({ cause: 'scheduled', outcome: 'complete' })
    await head.device.close()
  })

  it('goes on after a restart where it was, and tells what was found before', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const slow = { ...often, verifyBytesPerSecond: MiB, resyncChunkBytes: extentSize }
    const head = await new Head(legs, store, slow).open()
    legs['b']!.cached.fill(9, 0, 512)
    await head.until('it is under way', () => (shown(head).verify?.bytesDone ?? 0) > 2 * extentSize)
    await head.device.close()
    const next = await new Head(legs, store, often).open()
    await next.until('it is over', () => shown(next).verifiedAt !== null)
    expect(verifies(next).at(-1)!.resync!.bytes).to.be.below(next.device.facts!.size)
    expect(shown(next).differences).to.have.length(1)
    await next.device.close()
  })

  it('goes on when a leg that left in the middle of it is back', async () => {
    const legs = disks('a', 'b')
    const slow = { ...often, verifyBytesPerSecond: MiB, resyncChunkBytes: extentSize }
    const head = await new Head(legs, new MemoryStore(), slow).open()
    await head.until('it is under way', () => (shown(head).verify?.bytesDone ?? 0) > 2 * extentSize)
    legs['b']!.goAway()
    await head.until('it has ended', () => shown(head).verify === null)
    legs['b']!.comeBack()
    await head.until('it goes on', () => (shown(head).verify?.bytesDone ?? 0) > 2 * extentSize)
    await head.device.close()
  })

  it('that an operator ends does not begin again at once', async () => {
    const long = { verifyEveryMs: 1000, verifyBytesPerSecond: MiB, resyncChunkBytes: extentSize }
    const head = await new Head(disks('a', 'b'), new MemoryStore(), long).open()
    await head.until('it is under way', () => (shown(head).verify?.bytesDone ?? 0) > 0)
    const before = shown(head).verifyNextAt!
    await head.driver.stopVerify()
    await head.until('it has ended', () => shown(head).verify === null)
    expect(shown(head).verifyNextAt!).to.be.above(before)
    expect(verifies(head).at(-1)!.resync).to.include({ outcome: 'stopped' })
    await head.device.close()
  })
})

describe('a verify with little speed', () => {
  for (const how of ['an operator', 'the run'])
    it(`that ${how} ends waits no longer for the speed that it may have`, async () => {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore(), { resyncChunkBytes: extentSize }).open()
      const slow = head.driver.verify({ bytesPerSecond: 4096 })
      await head.until('it waits', () => (shown(head).verify?.bytesDone ?? 0) > 0)
      if (how === 'an operator') await head.driver.stopVerify()
      else {
        const word = (): unknown => head.driver.describe()['volume']
        for (const disk of Object.values(legs)) disk.goAway()
        await head.until('the run has ended', () => word() === 'suspended')
        for (const disk of Object.values(legs)) disk.comeBack()
        await head.until('it runs again', () => word() === 'healthy')
      }
      expect(await outcome(head.driver.verify())).to.equal('done')
      expect((await slow).complete).to.equal(false)
      await head.device.close()
    })
})
