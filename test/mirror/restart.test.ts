import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, read, write } from '../support/io.ts'
import { DiskDriver, type Disk } from './disk.ts'
import { disks, extentSize, failing, Head, later, MemoryStore, pattern } from './head.ts'

function reason(head: Head): string {
  return head.driver.describe()['reason'] as string
}

/** Bytes of two legs that differ where the volume has data. */
function differ(one: Disk, other: Disk, size: number): boolean {
  return !one.cached.subarray(0, size).equals(other.cached.subarray(0, size))
}

describe('a volume after a crash of its head', () => {
  it('waits for the leg that went on alone, whichever returns first', async () => {
    for (const store of [new MemoryStore(), null]) {
      const legs = disks('a', 'b')
      const first = await new Head(legs, store).open()
      await write(first.device, 0, pattern(1))
      legs['b']!.goAway()
      await write(first.device, 0, pattern(2))
      first.kill()
      const second = await new Head(legs, store, {}, ['a']).open()
      expect(second.device.state.word).to.equal('opening')
      expect(reason(second)).to.include('waiting for a')
      legs['a']!.comeBack()
      await second.inSync('a', 'b')
      expect((await read(second.device, 0, 4096))[0]).to.equal(2)
      expect(legs['b']!.cached[0]).to.equal(2)
      await second.device.close()
    }
  })

  it('waits for the leg that still has what the others lost with their caches', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    await write(first.device, 0, pattern(2))
    first.kill()
    legs['a']!.powerCut()
    const second = await new Head(legs, store, {}, ['b']).open()
    expect(second.device.state.word).to.equal('opening')
    expect(reason(second)).to.include('waiting for b')
    // It is there, and cannot be read at first.
    let tried = false
    failing(legs['b']!, (operation) => operation === Operation.read && (tried = true))
    legs['b']!.comeBack()
    await second.until('it is looked at', () => tried)
    await later(10)
    legs['b']!.fault = () => null
    await second.until('it runs', () => second.device.usable)
    await second.inSync('a', 'b')
    expect((await read(second.device, 0, 4096))[0]).to.equal(2)
    expect(legs['a']!.cached[0]).to.equal(2)
    second.kill()
    // The operator's word that it does not matter.
    legs['a']!.powerCut()
    const third = await new Head(legs, store, {}, ['b']).open()
    await third.driver.startVolume({ force: true })
    expect(third.device.state.word).to.equal('degraded')
    await third.device.close()
  })

  for (const how of ['restarts', 'fails a flush'])
    it(`takes the leg that has what its source loses before it is served (it ${how})`, async () => {
      const legs = disks('a', 'b')
      const store = new MemoryStore()
      const first = await new Head(legs, store).open()
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      await write(first.device, 0, pattern(2))
      first.kill()
      const a = legs['a']!
      let lost = false
      if (how === 'fails a flush') a.dropAtFlush(() => (lost = true))
      else
        a.hold = ({ operation }) => {
          if (operation !== Operation.flush || lost) return false
          lost = true
          a.restart()
          return true
        }
      const second = await new Head(legs, store).open()
      await second.until('a has lost it', () => lost)
      a.letGo()
      await second.inSync('a', 'b')
      expect((await read(second.device, 0, 4096))[0]).to.equal(2)
      expect(a.cached[0]).to.equal(2)
      const told = second.history().filter(({ text }) => text.includes('no other leg has it'))
      expect(told).to.deep.equal([])
      await second.device.close()
    })

  it('looks again at a leg that could not be read', async () => {
    const legs = disks('a')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    first.kill()
    failing(legs['a']!, (operation) => operation === Operation.read)
    const second = await new Head(legs, store).open()
    expect(reason(second)).to.include('bad disk')
    legs['a']!.fault = () => null
    await second.until('it runs', () => second.device.usable)
    await second.device.close()
  })

  it('asks nothing of legs that are there before it tries again, if nothing changes', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, pattern(1))
    first.kill()
    const rarely = { legRetryMs: 60_000, legRetryMsMax: 60_000 }
    const second = await new Head(legs, null, rarely, ['b']).open()
    const { length } = legs['a']!.log
    await later(30)
    expect(legs['a']!.log.length).to.equal(length)
    second.kill()
  })

  it("starts at once from one leg by the head's own record, not without it", async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    first.kill()
    const careful = await new Head(legs, null, {}, ['b']).open()
    expect(careful.device.state.word).to.equal('opening')
    expect(reason(careful)).to.include('b').and.to.include('could be newer')
    careful.kill()
    const second = await new Head(legs, store, {}, ['b']).open()
    expect(second.device.state.word).to.equal('degraded')
    expect((await read(second.device, 0, 4096))[0]).to.equal(1)
    legs['b']!.comeBack()
    await second.inSync('b')
    await second.device.close()
  })

  it('starts from the older leg when forced, and refuses the other as a split', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    legs['b']!.goAway()
    await write(first.device, extentSize, pattern(2))
    first.kill()
    const second = await new Head(legs, store, {}, ['a']).open()
    await second.driver.startVolume({ force: true })
    expect((await read(second.device, extentSize, 4096))[0]).to.equal(0)
    await write(second.device, 0, pattern(3))
    legs['a']!.comeBack()
    await second.until('a is refused', () => second.leg('a').reason.includes('split brain'))
    expect(second.leg('a').reason).to.match(/up to \d+ bytes that the volume lacks/)
    expect(second.state('a')).to.equal('failed')
    expect(second.history().some(({ text }) => text.includes('forced'))).to.equal(true)
    await second.driver.attachLeg('a').then(
      () => expect.fail('it was attached'),
      (error: unknown) => expect((error as StorageError).message).to.include('split brain'),
    )
    await second.driver.attachLeg('a', { discard: true })
    await second.inSync('a', 'b')
    expect(legs['a']!.cached[extentSize]).to.equal(0)
    expect(legs['a']!.cached[0]).to.equal(3)
    await second.device.close()
  })

  it('does not choose another source after a second crash', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    void write(first.device, 0, pattern(2))
    await first.until('a has it', () => legs['a']!.cached[0] === 2)
    first.kill()
    legs['b']!.hold = () => false
    legs['b']!.fault = ({ operation, offset }) =>
      operation === Operation.write && offset === 0 ? new StorageError('IO', 'bad') : null
    const second = await new Head(legs, store).open()
    expect((await read(second.device, 0, 4096))[0]).to.equal(2)
    second.kill()
    legs['b']!.fault = () => null
    const third = await new Head(legs, store, {}, ['a']).open()
    expect(third.device.state.word).to.equal('opening')
    legs['a']!.comeBack()
    await third.inSync('a', 'b')
    expect((await read(third.device, 0, 4096))[0]).to.equal(2)
    await third.device.close()
  })

  it('never serves a leg that was being filled when its source died', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    for (let at = 0; at < 8; at++) await write(first.device, at * extentSize, pattern(1))
    legs['b']!.goAway()
    for (let at = 0; at < 8; at++) await write(first.device, at * extentSize, pattern(2))
    legs['b']!.hold = ({ operation, offset }) =>
      operation === Operation.write && offset === 4 * extentSize
    legs['b']!.comeBack()
    await first.until('half of it is copied', () => legs['b']!.cached[3 * extentSize] === 2)
    legs['a']!.goAway()
    await first.until('it is suspended', () => first.driver.describe()['volume'] !== 'syncing')
    first.kill()
    legs['b']!.hold = () => false
    for (const kept of [store, null]) {
      const second = await new Head(legs, kept, {}, ['a']).open()
      expect(second.device.state.word).to.equal('opening')
      second.kill()
    }
    const third = await new Head(legs, store).open()
    await third.inSync('a', 'b')
    for (let at = 0; at < 8; at++) expect(legs['b']!.cached[at * extentSize]).to.equal(2)
    await third.device.close()
  })

  it('resumes a resync where the dirty map says', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const settings = { resyncCheckpointBytes: extentSize, resyncWindow: 1, intentIdleMs: 5 }
    const first = await new Head(legs, store, settings).open()
    legs['b']!.goAway()
    for (let at = 0; at < 8; at++)
      await write(first.device, at * extentSize, pattern(2, extentSize))
    // Out of the intent log, so that only the dirty map tells.
    await first.until('the log is empty', () => first.driver.describe()['hotExtents'] === 0)
    legs['b']!.hold = ({ operation, offset }) =>
      operation === Operation.write && offset === 5 * extentSize
    legs['b']!.comeBack()
    await first.until('it is half way', () => first.leg('b')['bytesOutOfSync'] === 3 * extentSize)
    first.kill()
    legs['b']!.hold = () => false
    const second = await new Head(legs, store, settings).open()
    await second.inSync('a', 'b')
    expect(second.lastResync('b')!.bytes).to.be.within(extentSize, 4 * extentSize)
    expect(differ(legs['a']!, legs['b']!, second.device.facts!.size)).to.equal(false)
    await second.device.close()
  })

  it('fences the older head, which changes nothing that is persisted', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, pattern(1))
    const second = await new Head(legs, null).open()
    await second.inSync('a', 'b')
    for (const disk of Object.values(legs))
      disk.fault = ({ operation, offset }) =>
        operation === Operation.write && offset === 8192 ? new StorageError('FENCED', 'old') : null
    const failed = await write(first.device, 8192, pattern(9)).catch((error: unknown) => error)
    expect((failed as StorageError).code).to.equal('FENCED')
    expect(first.device.state.word).to.equal('failed')
    for (const disk of Object.values(legs)) disk.fault = () => null
    await write(second.device, 8192, pattern(3))
    expect([second.state('a'), second.state('b')]).to.deep.equal(['in-sync', 'in-sync'])
    first.kill()
    await second.device.close()
  })
})

describe('a crash at every step', () => {
  /** Kills the head after so many requests to disks; what was acknowledged must be found again. */
  async function crashAfter(steps: number, store: MemoryStore | null): Promise<boolean> {
    const legs = disks('a', 'b')
    const first = await new Head(legs, store, { resyncWindow: 1 }).open()
    await write(first.device, 0, pattern(1))
    legs['b']!.goAway()
    await write(first.device, 0, pattern(2))
    await write(first.device, 2 * extentSize, pattern(2))
    let left = steps
    for (const disk of Object.values(legs))
      disk.fault = () => {
        if (left-- === 0) first.kill()
        return left < 0 ? new StorageError('UNAVAILABLE', 'the head is dead') : null
      }
    legs['b']!.comeBack()
    let acknowledged = 2
    let finished = false
    const work = (async () => {
      await first.until('in sync or dead', () => left < 0 || first.state('b') === 'in-sync')
      if (left < 0) return
      legs['a']!.goAway()
      await write(first.device, 0, pattern(3))
      acknowledged = 3
      finished = true
    })()
    await Promise.race([work, first.until('dead', () => left < 0 || finished)])
    first.kill()
    for (const disk of Object.values(legs)) disk.fault = () => null
    const second = await new Head(legs, store).open()
    await second.inSync('a', 'b')
    const found = (await read(second.device, 0, 4096))[0]!
    expect(found, `after ${steps} steps`).to.be.within(acknowledged, 3)
    expect(differ(legs['a']!, legs['b']!, second.device.facts!.size)).to.equal(false)
    await second.device.close()
    return finished
  }

  it('of a return and a departure loses nothing', async function () {
    for (const store of [true, false]) {
      let steps = 0
      while (!(await crashAfter(steps, store ? new MemoryStore() : null))) steps++
      expect(steps).to.be.above(20)
    }
  })

  it('calls a leg from before all that is remembered too old, not split', async () => {
    const legs = disks('a', 'b', 'c')
    const { a, b, c } = legs
    const head = await new Head(legs, new MemoryStore()).open()
    await (await head.driver.removeLeg('c')).close()
    for (let times = 0; times < 35; times++) {
      b!.goAway()
      await write(head.device, 0, pattern(times))
      b!.comeBack()
      await head.inSync('a', 'b')
    }
    const device = new Device('m/c', new DiskDriver(c!), systemClock)
    await device.open()
    const refusal = await head.driver.addLeg({ name: 'c', device }).then(
      () => '',
      (error: unknown) => (error as StorageError).message,
    )
    expect(refusal).to.match(/its history is too old to compare: it is at generation \d+/)
    expect(refusal).to.include('--discard').and.not.include('split brain')
    await head.device.close()
    // A head that remembers nothing cannot tell either, and starts when an operator says so.
    const second = await new Head({ a: a!, b: b!, c: c! }, new MemoryStore()).open()
    expect(second.device.state.reason).to.include('c: its history is too old to compare')
    await second.driver.startVolume({ force: true })
    await second.inSync('a', 'b')
    await second.until('c is refused', () => second.leg('c').reason.includes('too old'))
    await second.driver.attachLeg('c', { discard: true })
    await second.inSync('c')
    expect(c!.cached.subarray(0, 4096).equals(pattern(34))).to.equal(true)
    await second.device.close()
  })

  it('that is from before all that its legs remember says so', async () => {
    const legs = disks('a', 'b')
    const { b } = legs
    const stale = new MemoryStore()
    await (await new Head(legs, stale).open()).device.close()
    const newer = await new Head(legs, new MemoryStore()).open()
    for (let times = 0; times < 35; times++) {
      b!.goAway()
      await write(newer.device, 0, pattern(times))
      b!.comeBack()
      await newer.inSync('a', 'b')
    }
    await newer.device.close()
    const old = await new Head(legs, stale).open()
    expect(old.device.usable).to.equal(false)
    expect(old.leg('a').reason).to.match(/this head's record is too old to compare/)
    await old.driver.startVolume({ force: true, leg: 'a' })
    await old.inSync('a', 'b')
    expect((await read(old.device, 0, 4096)).equals(pattern(34))).to.equal(true)
    await old.device.close()
  })
})
