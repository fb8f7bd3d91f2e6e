import { expect } from 'chai'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

type Legs = Readonly<Record<string, Disk>>

const quickLog = { intentIdleMs: 2 }

/** Copies what a disk has, to put it back later: the same disk, with an older content. */
function copyOf(disk: Disk): () => void {
  const content = Buffer.from(disk.stable)
  return () => {
    content.copy(disk.cached)
    content.copy(disk.stable)
  }
}

async function put(head: Head, byte: number): Promise<void> {
  await write(head.device, 0, pattern(byte))
  await flush(head.device)
}

/** Until the intent log is empty: what is copied then says nothing of what comes. */
function logEmpty(head: Head): Promise<void> {
  return head.until('the log is empty', () => head.driver.describe()['hotExtents'] === 0)
}

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

/** Every leg that answers reads gives these bytes, whichever it is. */
async function reads(head: Head, byte: number): Promise<void> {
  for (let turn = 0; turn < 6; turn++) expect((await read(head.device, 0, 4096))[0]).to.equal(byte)
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
