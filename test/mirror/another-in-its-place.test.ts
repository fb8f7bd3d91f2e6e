import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'
import { copyOf, logEmpty, put, quickLog } from './putting-back.ts'

const patient = { legRetryMs: 60_000, legRetryMsMax: 60_000 }

type Content = Readonly<Record<'cached' | 'stable', Buffer>>

function contentOf({ cached, stable }: Disk): Content {
  return { cached: Buffer.from(cached), stable: Buffer.from(stable) }
}

function blank({ size }: Disk): Content {
  return { cached: Buffer.alloc(size), stable: Buffer.alloc(size) }
}

/** Another device, which nobody has claimed, is in the place of the disk. */
function exchange(disk: Disk, content: Content): void {
  Object.assign(disk, content, { identity: 'f'.repeat(32), epoch: 0, last: 0 })
}

type Make = (a: Disk, older: Content) => Content

/** As where a file system is not mounted, or a backup of it is. */
const inPlace: Readonly<Record<string, Make>> = {
  'a blank device': blank,
  'a copy of its older state': (_, older) => older,
}

function pair(): Record<'a' | 'b', Disk> {
  return disks('a', 'b')
}

/** Ones are on both legs, and their head goes on. */
async function ones(legs: Record<'a' | 'b', Disk>, store: MemoryStore): Promise<Head> {
  const head = await new Head(legs, store).open()
  await head.inSync('a', 'b')
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  return head
}

/** Another head claims both, loses b before b has its generation, and flushes twos on a. */
async function anotherGoesOn(legs: Record<'a' | 'b', Disk>): Promise<void> {
  const { b } = legs
  const slots = [0, 1].map((slot) => superblockOffset(b.size, slot))
  b.fault = ({ operation, offset }) =>
    operation === Operation.write && slots.includes(offset)
      ? new StorageError('UNAVAILABLE', 'gone')
      : null
  const second = await new Head(legs, new MemoryStore(), patient).open()
  await second.until('it serves', () => second.device.usable)
  await write(second.device, 0, pattern(2))
  await flush(second.device)
  second.kill()
  b.fault = () => null
}

/** Why the volume waits; it must not serve what is older. */
async function waits(head: Head): Promise<string> {
  await later(50)
  const found = head.device.usable ? (await read(head.device, 0, 4096))[0] : 'it waits'
  expect(found, 'twos were acknowledged').to.equal('it waits')
  return String(head.driver.describe()['reason'])
}

describe('a leg that alone has what was flushed last, with another device in its place', () => {
  for (const [what, made] of Object.entries(inPlace))
    for (const own of ['kept', 'lost'])
      it(`is waited for: ${what}, the head's own record ${own}`, async () => {
        const legs = pair()
        const store = new MemoryStore()
        const first = await ones(legs, store)
        const older = contentOf(legs.a)
        legs.b.goAway()
        await first.until('b left', () => first.state('b') === 'missing')
        await write(first.device, 0, pattern(2))
        await flush(first.device)
        first.kill()
        exchange(legs.a, made(legs.a, older))
        const kept = own === 'kept' ? store : new MemoryStore()
        await waits(await new Head(legs, kept, patient).open())
      })

  it('is waited for by a head that knows that another one had its legs', async () => {
    const legs = pair()
    const store = new MemoryStore()
    await store.save('m_head', '1048000 0')
    await (await ones(legs, store)).device.close()
    await anotherGoesOn(legs)
    exchange(legs.a, blank(legs.a))
    await waits(await new Head(legs, store, patient).open())
  })

  it('is named with that and with what to type, and goes on without it by that', async () => {
    const legs = pair()
    await (await ones(legs, new MemoryStore())).device.close()
    exchange(legs.a, blank(legs.a))
    const head = await new Head(legs, new MemoryStore(), patient).open()
    expect(await waits(head)).to.equal(
      'waiting for a (a blank device is in its place), which could be newer',
    )
    expect(head.driver.describe()['hint'])
      .to.include('`dst volume start m`')
      .and.to.include('--force')
    await head.driver.startVolume({ force: true })
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
  })

  it('is not waited for where the head’s own record says that another one has all', async () => {
    const legs = pair()
    const store = new MemoryStore()
    await (await ones(legs, store)).device.close()
    exchange(legs.a, blank(legs.a))
    const head = await new Head(legs, store, patient).open()
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
  })

  it('is waited for where only a copy of the other one is there', async () => {
    const legs = pair()
    await (await ones(legs, new MemoryStore())).device.close()
    exchange(legs.a, blank(legs.a))
    Object.assign(legs.b, { identity: 'e'.repeat(32) })
    const head = await new Head(legs, new MemoryStore(), patient).open()
    expect(await waits(head)).to.include('a (a blank device is in its place)')
    await head.driver.startVolume({ force: true })
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
  })
})

describe('a leg that alone kept what was acknowledged and not flushed', () => {
  const places: Readonly<Record<string, Make | null>> = { nothing: null, ...inPlace }
  for (const [what, made] of Object.entries(places))
    it(`is waited for, as long as ${what} is in its place`, async () => {
      const legs = pair()
      const { a, b } = legs
      const store = new MemoryStore()
      const first = await ones(legs, store)
      const older = contentOf(a)
      await write(first.device, 0, pattern(2))
      first.kill()
      Object.assign(b, { cached: Buffer.from(b.stable), bootId: 'e'.repeat(32) })
      if (made !== null) exchange(a, made(a, older))
      const away = made === null ? ['a'] : []
      const reason = await waits(await new Head(legs, store, patient, away).open())
      expect(reason).to.match(/^waiting for a \(.+\), with what was lost where power was lost$/)
    })
})

describe('a leg of memory that alone kept what was acknowledged and not flushed', () => {
  it('is not waited for: it is nowhere any more', async () => {
    const legs = pair()
    const { a, b } = legs
    const store = new MemoryStore()
    const first = await ones(legs, store)
    await write(first.device, 0, pattern(2))
    first.kill()
    Object.assign(b, { cached: Buffer.from(b.stable), bootId: 'e'.repeat(32) })
    exchange(a, blank(a))
    const head = new Head(legs, store, patient)
    Object.defineProperty(head.legs.get('a')!.driver, 'forgets', { value: true })
    await head.open()
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
  })
})

describe('a leg that alone had what was flushed last, and was put back', () => {
  for (const own of ['kept', 'lost'])
    it(`keeps an older one from being served unasked, the head's own record ${own}`, async () => {
      const legs = pair()
      const store = new MemoryStore()
      const first = await new Head(legs, store, quickLog).open()
      await first.inSync('a', 'b')
      await put(first, 1)
      await logEmpty(first)
      const back = copyOf(legs.a)
      legs.b.goAway()
      await first.until('b left', () => first.state('b') === 'missing')
      await put(first, 2)
      await logEmpty(first)
      await later(100)
      first.kill()
      back()
      // What it remembers of the legs is kept beside the record.
      if (own === 'lost')
        store.load = (key) =>
          key === 'm' ? Promise.resolve(null) : MemoryStore.prototype.load.call(store, key)
      const reason = await waits(await new Head(legs, store, patient).open())
      expect(reason).to.include('a was put back to an older state')
    })
})
