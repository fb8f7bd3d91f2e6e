import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, later, MemoryStore, pattern } from './head.ts'
import { copyOf, logEmpty, marked, put, quickLog, reads, type Legs } from './putting-back.ts'

/** A volume that holds twos, after a crash of its head; puts b back to when it held ones. */
async function crashed(legs: Legs, store: MemoryStore | null): Promise<() => void> {
  const first = await new Head(legs, store, quickLog).open()
  await put(first, 1)
  await logEmpty(first)
  await first.device.close()
  const back = copyOf(legs['b'] ?? legs['a']!)
  const second = await new Head(legs, store, quickLog).open()
  await put(second, 2)
  await logEmpty(second)
  second.kill()
  return back
}

describe('a leg that was put back to an older state while the head was dead', () => {
  it('is filled', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const back = await crashed(legs, store)
    back()
    const head = await new Head(legs, store).open()
    await reads(head, 2)
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'full' })
    expect(head.lastResync('b')!.cause).to.include('put back to an older state')
    await reads(head, 2)
    await head.device.close()
  })

  it('is not started from alone, but by an operator’s word', async () => {
    const legs = disks('a')
    const store = new MemoryStore()
    const back = await crashed(legs, store)
    back()
    const head = await new Head(legs, store).open()
    await later(30)
    expect(head.device.usable).to.equal(false)
    expect(head.driver.describe()['reason']).to.include('a was put back to an older state')
    await head.driver.startVolume({ force: true })
    await reads(head, 1)
    await head.device.close()
  })

  it('is not started from while the other one is away', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const back = await crashed(legs, store)
    back()
    const head = await new Head(legs, store, {}, ['a']).open()
    await later(30)
    expect(head.device.usable).to.equal(false)
    expect(head.driver.describe()['reason']).to.include('b was put back to an older state')
    legs['a']!.comeBack()
    await head.inSync('a', 'b')
    await reads(head, 2)
    await head.device.close()
  })

  it('is looked at again: another head may have been at work on all of them', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await put(first, 1)
    await first.device.close()
    const back = [copyOf(legs['a']!), copyOf(legs['b']!)]
    const second = await new Head(legs, store).open()
    await put(second, 2)
    second.kill()
    const forth = [copyOf(legs['a']!), copyOf(legs['b']!)]
    for (const one of back) one()
    const head = await new Head(legs, store).open()
    await head.until('it waits', () =>
      String(head.driver.describe()['reason']).includes('put back'),
    )
    for (const one of forth) one()
    await head.inSync('a', 'b')
    await reads(head, 2)
    await head.device.close()
  })

  it('is not believed though all of them were', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await put(first, 1)
    await first.device.close()
    const back = [copyOf(legs['a']!), copyOf(legs['b']!)]
    const second = await new Head(legs, store).open()
    await put(second, 2)
    second.kill()
    for (const one of back) one()
    const head = await new Head(legs, store).open()
    await later(30)
    expect(head.device.usable).to.equal(false)
    for (const name of ['a', 'b'])
      expect(head.driver.describe()['reason']).to.include(`${name} was put back`)
    await head.driver.startVolume({ force: true })
    await head.inSync('a', 'b')
    await reads(head, 1)
    await head.device.close()
  })

  it('and that left before is filled', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store, quickLog).open()
    await put(first, 1)
    await first.device.close()
    const back = copyOf(legs['b']!)
    const second = await new Head(legs, store, quickLog).open()
    await put(second, 2)
    legs['b']!.goAway()
    await put(second, 3)
    second.kill()
    back()
    const head = await new Head(legs, store).open()
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'full' })
    await reads(head, 3)
    expect(legs['b']!.cached[0]).to.equal(3)
    await head.device.close()
  })
})

/** Whose legs are on targets, which may restart. */
function onTargets(...names: string[]): Legs {
  const legs = disks(...names)
  for (const disk of Object.values(legs)) disk.restarts = 0
  return legs
}

/** Puts the disk back while its target is down, which is there again at once, or after a while. */
async function putBackAndRestart(disk: Disk, back: () => void, away: boolean) {
  if (away) {
    disk.goAway()
    await later(5)
  }
  back()
  disk.restarts!++
  if (!away) disk.bootId = `${disk.bootId.slice(0, 31)}f`
  disk.comeBack()
  await later(1)
}

describe('a leg that is put back to a moment of the same run', () => {
  for (const away of [false, true])
    for (const intentLog of [true, false])
      it(`is filled: ${away ? 'away' : 'there'}, ${intentLog ? 'log' : 'no log'}`, async () => {
        const legs = onTargets('a', 'b')
        const b = legs['b']!
        const head = await new Head(legs, new MemoryStore(), { ...quickLog, intentLog }).open()
        await put(head, 1)
        await marked(head, b)
        const back = copyOf(b)
        await put(head, 2)
        await marked(head, b)
        await putBackAndRestart(b, back, away)
        await reads(head, 2)
        await head.inSync('a', 'b')
        expect(head.lastResync('b')).to.include({ kind: 'full' })
        expect(head.lastResync('b')!.cause).to.include('put back to an older state')
        await reads(head, 2)
        await head.device.close()
        expect(b.cached[0]).to.equal(2)
      })

  it('gets again what was written since its last mark', async () => {
    for (const away of [false, true]) {
      const legs = onTargets('a', 'b')
      const b = legs['b']!
      const head = await new Head(legs, new MemoryStore(), { intentIdleMs: 60_000 }).open()
      await put(head, 1)
      const back = copyOf(b)
      await put(head, 2)
      await putBackAndRestart(b, back, away)
      await head.inSync('a', 'b')
      expect(head.lastResync('b')).to.include({ kind: 'partial' })
      await reads(head, 2)
      await head.device.close()
      expect(b.cached[0]).to.equal(2)
    }
  })

  it('is filled though the superblock of a new generation is sent to it again', async () => {
    const legs = onTargets('a', 'b', 'c')
    const b = legs['b']!
    const head = await new Head(legs, new MemoryStore(), quickLog).open()
    await put(head, 1)
    await marked(head, b)
    const back = copyOf(b)
    for (let turn = 0; turn < 2; turn++) {
      await put(head, 2)
      await marked(head, b)
    }
    await logEmpty(head)
    const sent = new Promise<void>((resolve) => {
      b.hold = ({ operation, offset }) => {
        const isHeld = operation === Operation.write && offset >= superblockOffset(b.size, 0)
        if (isHeld) resolve()
        return isHeld
      }
    })
    legs['c']!.goAway()
    await sent
    back()
    b.restarts!++
    b.comeBack()
    b.letGo()
    await head.inSync('a', 'b')
    expect(head.lastResync('b')!.cause).to.include('put back to an older state')
    await reads(head, 2)
    await head.device.close()
    expect(b.cached[0]).to.equal(2)
  })

  it('is not gone on with though it is the only one', async () => {
    const legs = onTargets('a')
    const a = legs['a']!
    const head = await new Head(legs, new MemoryStore(), quickLog).open()
    await put(head, 1)
    await marked(head, a)
    const back = copyOf(a)
    await put(head, 2)
    await marked(head, a)
    await putBackAndRestart(a, back, false)
    await head.until('it waits', () => {
      return String(head.driver.describe()['reason']).includes('a was put back to an older state')
    })
    await head.driver.startVolume({ force: true })
    await reads(head, 1)
    // It goes on above what it showed before, so that it is believed from now on.
    await head.device.close()
    const next = await new Head(legs, new MemoryStore(), quickLog).open()
    await next.inSync('a')
    await reads(next, 1)
    await next.device.close()
  })

  it('while it was being filled is filled once more', async () => {
    const legs = onTargets('a', 'b')
    const [a, b] = [legs['a']!, legs['b']!]
    const settings = { ...quickLog, resyncCheckpointBytes: 4096 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    b.goAway()
    for (let at = 0; at < 8; at++) await write(head.device, at * extentSize, pattern(1))
    // What it has to be is read of a: nothing before it is copied, then up to the sixth extent.
    a.hold = ({ operation, offset, length }) =>
      operation === Operation.read && offset + length < 3 * MiB
    b.comeBack()
    await head.until('it is being filled', () => head.state('b') === 'syncing')
    const back = copyOf(b)
    const copiedAt = b.log.length
    a.letGo(({ offset }) => offset < 5 * extentSize)
    await head.until('some is called copied', () => {
      return Number(head.leg('b')['bytesOutOfSync']) <= 4 * 4096
    })
    await marked(head, b, copiedAt)
    await putBackAndRestart(b, back, false)
    a.letGo()
    await head.inSync('a', 'b')
    await head.device.close()
    for (let at = 0; at < 8; at++) expect(b.cached[at * extentSize], `extent ${at}`).to.equal(1)
  })
})

describe('a leg that is put back to a moment of the run in which the head died', () => {
  /** Ones are on a copy of each leg, twos on the legs, and their head is dead. */
  async function died(legs: Legs, store: MemoryStore): Promise<(() => void)[]> {
    const head = await new Head(legs, store, quickLog).open()
    await put(head, 1)
    await marked(head, legs['a']!)
    const back = Object.values(legs).map(copyOf)
    for (let turn = 0; turn < 2; turn++) {
      await put(head, 2)
      await marked(head, legs['a']!)
      await logEmpty(head)
    }
    await later(5)
    head.kill()
    return back
  }

  it('is filled', async () => {
    for (const remembers of [true, false]) {
      const legs = disks('a', 'b')
      const store = new MemoryStore()
      const [, back] = await died(legs, store)
      back!()
      const head = await new Head(legs, remembers ? store : new MemoryStore()).open()
      if (!remembers) {
        // Nobody says that it was not newer, before.
        expect(head.device.usable).to.equal(false)
        const reason = String(head.driver.describe()['reason'])
        expect(reason).to.include('waiting for b, which could be newer; b was put back')
        await head.driver.startVolume({ force: true })
      }
      await reads(head, 2)
      await head.inSync('a', 'b')
      expect(head.lastResync('b')!.cause).to.include('put back to an older state')
      await head.device.close()
      expect(legs['b']!.cached[0]).to.equal(2)
    }
  })

  it('is not believed though all of them were', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    for (const back of await died(legs, store)) back()
    const head = await new Head(legs, store).open()
    await later(30)
    expect(head.device.usable).to.equal(false)
    for (const name of ['a', 'b'])
      expect(head.driver.describe()['reason']).to.include(`${name} was put back`)
    await head.driver.startVolume({ force: true })
    await head.inSync('a', 'b')
    await reads(head, 1)
    await head.device.close()
    const next = await new Head(legs, store).open()
    await next.inSync('a', 'b')
    await next.device.close()
  })
})

/** Another store that has what this one has now. */
async function copyOfStore(store: MemoryStore): Promise<MemoryStore> {
  const copy = new MemoryStore()
  for (const key of ['m', 'm_head', 'm_marks']) {
    const text = await store.load(key)
    if (text !== null) await copy.save(key, text)
  }
  return copy
}

describe('a machine that was put back to an older state, with its leg', () => {
  it('does not have the other leg filled, which alone has what was written since', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store, quickLog).open()
    await first.inSync('a', 'b')
    legs['b']!.goAway()
    await put(first, 1)
    await logEmpty(first)
    const back = copyOf(legs['a']!)
    const older = await copyOfStore(store)
    legs['b']!.comeBack()
    await first.inSync('a', 'b')
    await put(first, 2)
    first.kill()
    back()
    const head = await new Head(legs, older, quickLog, ['b']).open()
    await head.inSync('a')
    await write(head.device, 8192, pattern(3))
    legs['b']!.comeBack()
    await head.until('b is refused', () => head.leg('b').reason.includes('split brain'))
    await head.device.close()
    expect(legs['b']!.cached[0]).to.equal(2)
  })
})

describe('a start', () => {
  it('that crashed before it was served puts no leg in doubt', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await put(first, 1)
    await first.device.close()
    // At each of its saves, and at each of the legs' superblocks.
    for (let step = 0; step < 12; step++) {
      let left = step
      const save = store.save.bind(store)
      const dead = (): boolean => left-- <= 0
      store.save = (key, text) => (dead() ? new Promise(() => undefined) : save(key, text))
      for (const disk of Object.values(legs)) disk.hold = () => dead()
      const dies = new Head(legs, store)
      void dies.open()
      await later(15)
      dies.kill()
      store.save = save
      for (const disk of Object.values(legs)) disk.hold = () => false
      for (const [name, other] of [
        ['a', 'b'],
        ['b', 'a'],
      ]) {
        const head = await new Head(
          { [name!]: legs[name!]!, [other!]: legs[other!]! },
          store,
        ).open()
        await head.inSync('a', 'b')
        expect(head.lastResync('b')?.kind ?? 'crash', `step ${step}`).to.equal('crash')
        await reads(head, 1)
        await head.device.close()
      }
    }
  })
})
