import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import { Disk, DiskDriver } from './disk.ts'
import { answer, disks, Head, HeldStore, later, MemoryStore, outcome, pattern } from './head.ts'

describe('a leg', () => {
  it('is not detached when it has become the last in sync while it was flushed', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    let flushes = 0
    legs['b']!.hold = ({ operation }) => {
      if (operation === Operation.flush) flushes++
      return operation === Operation.flush
    }
    const detaching = outcome(head.driver.detachLeg('b'))
    await head.until('it is flushed', () => flushes > 0)
    legs['a']!.goAway()
    await head.until('a left', () => head.state('a') === 'missing')
    legs['b']!.letGo()
    expect(await detaching).to.equal('CONFIG')
    expect(head.state('b')).to.equal('in-sync')
    await write(head.device, 0, pattern(2))
    legs['a']!.comeBack()
    await head.inSync('a', 'b')
    await head.device.close()
  })
})

describe('a volume', () => {
  it('leaves a leg alone that was removed and is still open', async () => {
    const legs = disks('a')
    const head = await new Head(legs, new MemoryStore()).open()
    const disk = new Disk(4 * MiB)
    const device = new Device('m/c', new DiskDriver(disk), systemClock)
    await device.open()
    await head.driver.addLeg({ name: 'c', device })
    await head.inSync('a', 'c')
    await head.driver.removeLeg('c')
    const { length } = disk.log
    const claims = disk.claims.length
    await later(50)
    expect([disk.log.length, disk.claims.length]).to.deep.equal([length, claims])
    await device.close()
    await head.device.close()
  })

  it('calls no leg removed while writes may still land on it', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const b = legs['b']!
    const { epoch } = b
    let held = false
    b.hold = ({ operation, offset }) => {
      const own = operation === Operation.write && offset === 0
      held ||= own
      return own
    }
    const written = write(head.device, 0, pattern(1))
    // Not only a page of the log, after which it would not even begin on a leg that has left.
    await head.until('it is under way', () => held)
    let done = false
    const gone = head.driver.removeLeg('b').finally(() => (done = true))
    await written
    // Commands are carried out one after the other.
    expect(await outcome(head.driver.invalidateLeg('b'))).to.equal('CONFIG')
    const again = { name: 'b', device: head.legs.get('b')! }
    expect(await answer(head.driver.addLeg(again))).to.include('still under way')
    expect([done, b.epoch]).to.deep.equal([false, epoch])
    b.letGo()
    await gone
    expect(b.epoch).to.equal(0)
    await head.driver.addLeg(again)
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('does not claim a leg that is found to belong to another', async () => {
    const store = new MemoryStore()
    const legs = disks('a', 'b')
    const first = await new Head(legs, store).open()
    await first.device.close()
    const others = disks('x', 'y')
    const other = await new Head(others, new MemoryStore()).open()
    const { epoch } = others['x']!
    const head = await new Head({ a: legs['a']!, b: others['x']! }, store, {}, ['b']).open()
    for (const driver of others['x']!.drivers) driver.announce()
    await head.until('it is refused', () => head.state('b') === 'failed')
    expect(head.leg('b').reason).to.include('another volume')
    expect(others['x']!.epoch).to.equal(epoch)
    others['x']!.epoch = 2 ** 50
    for (const driver of others['x']!.drivers) driver.goAway()
    for (const driver of others['x']!.drivers) driver.announce()
    await head.until('it is refused again', () => head.state('b') === 'failed')
    await write(head.device, 0, pattern(1))
    other.kill()
    await head.device.close()
  })

  it('starts by what legs say once they are claimed, not by what they said before', async () => {
    const legs = disks('a', 'b')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, pattern(1))
    legs['b']!.onClaim = async () => {
      legs['b']!.onClaim = () => Promise.resolve()
      await first.driver.removeLeg('a')
      await write(first.device, 0, pattern(2))
    }
    const second = await new Head(legs, null).open()
    await second.inSync('a', 'b')
    first.kill()
    expect((await read(second.device, 0, 4096))[0]).to.equal(2)
    expect(legs['a']!.cached[0]).to.equal(2)
    await second.device.close()
  })

  it('does not start again and again for a request that its last leg never takes', async () => {
    const legs = disks('a')
    const settings = { suspendMs: 200, legRetryMs: 40 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    // As a linear is: there, but for one of its parts.
    legs['a']!.fault = ({ operation, offset }) =>
      operation === Operation.write && offset === 0
        ? new StorageError('UNAVAILABLE', 'a part is away')
        : null
    expect(await outcome(write(head.device, 0, pattern(1)))).to.equal('UNAVAILABLE')
    const starts = head.history().filter(({ text }) => text.startsWith('started')).length
    expect(starts).to.be.below(10)
    legs['a']!.fault = () => null
    await head.until('it runs', () => head.driver.describe()['volume'] === 'healthy')
    await write(head.device, 0, pattern(2))
    await head.device.close()
  })

  it('remembers a resync that ended with the loss of every leg', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    legs['b']!.goAway()
    await write(head.device, 0, pattern(1))
    legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    legs['b']!.comeBack()
    await head.until('b is syncing', () => head.state('b') === 'syncing')
    for (const disk of Object.values(legs)) disk.goAway()
    legs['b']!.hold = () => false
    for (const disk of Object.values(legs)) disk.comeBack()
    await head.inSync('a', 'b')
    const outcomes = head.history().flatMap(({ resync }) => resync?.outcome ?? [])
    expect(outcomes).to.have.length(2)
    expect(outcomes[1]).to.equal('complete')
    await head.device.close()
  })

  it('reads from both legs after reads were under way when every leg was lost', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    legs['b']!.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    legs['a']!.hold = ({ operation, length }) => operation === Operation.read && length === 512
    const reads = Array.from({ length: 10 }, () => read(head.device, 0, 512))
    legs['a']!.goAway()
    legs['a']!.hold = () => false
    for (const disk of Object.values(legs)) disk.comeBack()
    await Promise.all(reads)
    await head.inSync('a', 'b')
    const counts = new Map<Disk, number>()
    for (const disk of Object.values(legs))
      disk.hold = ({ operation, length }) => {
        const reads = operation === Operation.read && length === 512
        if (reads) counts.set(disk, (counts.get(disk) ?? 0) + 1)
        return reads
      }
    const more = Array.from({ length: 10 }, () => read(head.device, 0, 512))
    const sum = (): number => [...counts.values()].reduce((all, count) => all + count, 0)
    await head.until('all have arrived', () => sum() === more.length)
    expect([...counts.values()]).to.deep.equal([5, 5])
    for (const disk of Object.values(legs)) disk.letGo()
    await Promise.all(more)
    await head.device.close()
  })

  it('fails a write that waits for legs by its own deadline, not by an earlier one', async () => {
    const legs = disks('a', 'b')
    const settings = { minInSync: 2, suspendMs: 2_000_000 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const short = async (fill: number): Promise<() => Promise<string>> => {
      legs['b']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
      const writing = outcome(write(head.device, 0, pattern(fill)))
      await head.until('a has it', () => legs['a']!.cached[0] === fill)
      legs['b']!.hold = () => false
      legs['b']!.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      return () => writing
    }
    const first = await short(1)
    await head.clock.skip(1_000_000)
    legs['b']!.comeBack()
    expect(await first()).to.equal('done')
    await head.inSync('a', 'b')
    const second = await short(2)
    // The first one's deadline comes, its own does not.
    await head.clock.skip(1_100_000)
    legs['b']!.comeBack()
    expect(await second()).to.equal('done')
    await head.device.close()
  })
})

describe('a command', () => {
  it('fails no writes of clients, however many wait for it', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { suspendRequestsMax: 2 }).open()
    let flushes = false
    legs['b']!.hold = ({ operation }) => {
      flushes ||= operation === Operation.flush
      return operation === Operation.flush
    }
    const detaching = head.driver.detachLeg('b')
    await head.until('it is flushed', () => flushes)
    const writes = [1, 2, 3, 4].map((at) => outcome(write(head.device, at * 4096, pattern(at))))
    legs['b']!.letGo()
    await detaching
    expect(await Promise.all(writes)).to.deep.equal(['done', 'done', 'done', 'done'])
    await head.device.close()
  })
})

/** Tells when it is asked what was saved. */
class ToldStore extends MemoryStore {
  onLoad = (): void => undefined

  override load(key: string): Promise<string | null> {
    this.onLoad()
    return super.load(key)
  }
}

describe('a volume that grows', () => {
  it('keeps no more than it may when its legs are lost before it starts anew', async () => {
    const legs = disks('a', 'b')
    const store = new ToldStore()
    // None of them fails because it has waited for long enough.
    const settings = { suspendRequestsMax: 2, suspendMs: 1_000_000 }
    const head = await new Head(legs, store, settings).open()
    store.onLoad = () => {
      store.onLoad = () => undefined
      for (const disk of Object.values(legs)) disk.goAway()
    }
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    const waits = (): boolean => String(head.driver.describe()['reason']).includes('waiting for')
    await head.until('it waits for its legs', waits)
    const writes = Array.from({ length: 9 }, (_, at) => write(head.device, at * 4096, pattern(1)))
    const outcomes = writes.map(outcome)
    let refused = 0
    for (const one of outcomes) void one.then((code) => code === 'UNAVAILABLE' && refused++)
    await head.until('all but two are refused', () => refused === 7)
    for (const disk of Object.values(legs)) disk.comeBack()
    const kept = (await Promise.all(outcomes)).filter((one) => one === 'done')
    expect(kept.length).to.equal(2)
    await head.device.close()
  })

  it('fails no writes of clients, however many wait for it', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { suspendRequestsMax: 2 }).open()
    const { size } = head.device.facts!
    const moved = superblockOffset(8 * MiB, 0)
    let moving = false
    for (const disk of Object.values(legs))
      disk.hold = ({ operation, offset }) => {
        const moves = operation === Operation.write && offset >= moved
        moving ||= moves
        return moves
      }
    for (const disk of Object.values(legs)) disk.grow(8 * MiB)
    await head.until('metadata are moved', () => moving)
    const writes = [1, 2, 3, 4].map((at) => outcome(write(head.device, at * 4096, pattern(at))))
    for (const disk of Object.values(legs)) disk.letGo()
    expect(await Promise.all(writes)).to.deep.equal(['done', 'done', 'done', 'done'])
    await head.until('it has grown', () => head.device.facts!.size > size)
    await head.device.close()
  })
})

describe('before it is durable', () => {
  /** A volume of two legs whose head cannot save its record until `open` is called. */
  async function held() {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store).open()
    await write(head.device, 0, pattern(1))
    const open = store.shut()
    return { legs, store, head, open }
  }

  function shown({ driver }: Head): string | undefined {
    const legs = driver.describe()['legs'] as Record<string, { state: string } | undefined>
    return legs['b']?.state
  }

  for (const [verb, ask] of [
    ['removed', (head: Head) => head.driver.removeLeg('b')],
    ['exported', (head: Head) => head.driver.exportLeg('b')],
    ['detached', (head: Head) => head.driver.detachLeg('b')],
  ] as const) {
    it(`no leg is shown or given up as ${verb}`, async () => {
      const { legs, head, open } = await held()
      const { epoch } = legs['b']!
      const asked = outcome(ask(head))
      await head.until('b left', () => shown(head) !== 'in-sync')
      expect(shown(head)).to.equal('missing')
      expect(legs['b']!.epoch).to.equal(epoch)
      open()
      expect(await asked).to.equal('done')
      expect(shown(head)).to.equal(verb === 'detached' ? 'detached' : undefined)
      expect(legs['b']!.epoch).to.equal(0)
      await head.device.close()
    })

    it(`no leg is called ${verb} when the volume stops`, async () => {
      const { legs, store, head } = await held()
      const asked = outcome(ask(head))
      const known = verb === 'removed' ? 'removed' : 'detached'
      const why = 'the volume stopped before'
      await head.until('b left', () => shown(head) !== 'in-sync')
      legs['a']!.goAway()
      expect(await asked).to.not.equal('done')
      expect(shown(head)).to.equal('missing')
      // It is not given up; the next start may have claimed it with more already.
      expect(legs['b']!.claims).to.not.include(0)
      expect(head.history().map(({ text }) => text)).to.include(`not ${known} for certain: ${why}`)
      head.kill()
      // What the first one was about to save is never saved.
      store.gate = Promise.resolve()
      const second = await new Head(legs, store).open()
      await second.inSync('a', 'b')
      await second.device.close()
    })
  }
  it('no leg is called trusted, and a detached one is known to be written to', async () => {
    for (const detached of [true, false]) {
      const { legs, store, head, open } = await held()
      const b = legs['b']!
      open()
      if (detached) await head.driver.detachLeg('b')
      else {
        b.goAway()
        await head.until('b left', () => head.state('b') === 'missing')
        b.hold = () => true
        b.comeBack()
      }
      await flush(head.device)
      const { asked } = store
      store.gate = new Promise(() => undefined)
      const trusted = outcome(head.driver.trustLeg('b'))
      b.letGo()
      await head.until('that is to be saved', () => store.asked > asked)
      legs['a']!.goAway()
      expect(await trusted).to.equal('UNAVAILABLE')
      head.kill()
      store.gate = Promise.resolve()
      const second = await new Head(legs, store).open()
      if (detached) await second.driver.attachLeg('b')
      await second.inSync('a', 'b')
      await second.device.close()
    }
  })
})
