import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, MemoryStore, pattern } from './head.ts'

type Kind = 'remote' | 'nbd' | 'file'
type Names = 'a' | 'b' | 'c'

/** A head whose legs are of these kinds; those of a remote alone say who has claimed them. */
class Kinds {
  readonly disks = disks('a', 'b', 'c')
  private readonly kinds: Readonly<Partial<Record<Names, Kind>>>

  constructor(kinds: Readonly<Partial<Record<Names, Kind>>>) {
    this.kinds = kinds
    for (const [name, kind] of Object.entries(kinds))
      this.disks[name]!.restarts = kind === 'file' ? null : 0
  }

  head(store: MemoryStore, away: readonly Names[] = []): Promise<Head> {
    const names = Object.keys(this.kinds)
    const legs = Object.fromEntries(names.map((name) => [name, this.disks[name]!]))
    const head = new Head(legs, store, { legRetryMs: 60_000, legRetryMsMax: 60_000 }, away)
    for (const [name, kind] of Object.entries(this.kinds))
      for (const method of kind === 'remote' ? [] : ['claim', 'claimed', 'stamp'])
        Object.defineProperty(head.legs.get(name)!.driver, method, { value: undefined })
    return head.open()
  }

  /** Written to by a head that has stopped since. */
  async served(): Promise<MemoryStore> {
    const store = new MemoryStore()
    const first = await this.head(store)
    await first.inSync(...Object.keys(this.kinds))
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    await first.device.close()
    return store
  }

  /** Another head takes all legs, loses b, and goes on with a. */
  async goOnWithA(): Promise<Head> {
    const b = this.disks['b']!
    const slots = [0, 1].map((slot) => superblockOffset(b.size, slot))
    b.fault = ({ operation, offset }) =>
      operation === Operation.write && slots.includes(offset)
        ? new StorageError('UNAVAILABLE', 'gone')
        : null
    const second = await this.head(new MemoryStore())
    await second.until('it serves', () => second.device.usable)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    b.fault = () => null
    return second
  }
}

const waits = 'another head may have had the legs since, which b cannot tell'

function decided(head: Head): Promise<void> {
  return head.until('it is decided', () => head.device.usable || reasonOf(head).includes('waiting'))
}

/** Neither of its superblocks can be read from now on. */
function damage({ size, cached }: Disk): void {
  for (const slot of [0, 1]) cached[superblockOffset(size, slot) + 100]! ^= 1
}

/** As where a target came up without its disk, or with a backup of it, which nobody claimed. */
function exchange(disk: Disk, content: Buffer): void {
  const copies = { cached: Buffer.from(content), stable: Buffer.from(content) }
  Object.assign(disk, copies, { identity: 'f'.repeat(32), epoch: 0, last: 0 })
}

function reasonOf(head: Head): string {
  return String(head.driver.describe()['reason'])
}

describe('a leg that cannot tell whether another head had it', () => {
  it('is not served alone while a leg that could is away', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    await kinds.goOnWithA()
    const third = await kinds.head(store, ['a'])
    await decided(third)
    expect(reasonOf(third)).to.include(waits)
    kinds.disks['a']!.comeBack()
    await third.until('it serves', () => third.device.usable)
    expect((await read(third.device, 0, 4096))[0]).to.equal(2)
  })

  it('is served alone while one that could is there, illegible, and tells of none', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    damage(kinds.disks['a']!)
    const head = await kinds.head(store)
    await decided(head)
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
  })

  it('is not while another device is in the place of one that could', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    const a = kinds.disks['a']!
    damage(a)
    a.identity = 'another'
    const head = await kinds.head(store)
    await decided(head)
    expect(reasonOf(head)).to.include(waits)
  })

  it('nor while one that is there, illegible, tells of another head', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    const second = await kinds.goOnWithA()
    second.kill()
    damage(kinds.disks['a']!)
    const head = await kinds.head(store)
    await decided(head)
    expect(reasonOf(head)).to.include('another head may have had the legs since')
  })

  for (const what of ['blank device', 'copy of its older state'])
    it(`nor while a ${what} is in the place of one that could, and went on`, async () => {
      const kinds = new Kinds({ a: 'remote', b: 'nbd' })
      const store = await kinds.served()
      const a = kinds.disks['a']!
      const older = Buffer.from(a.cached)
      const second = await kinds.goOnWithA()
      second.kill()
      exchange(a, what === 'blank device' ? Buffer.alloc(a.size) : older)
      const head = await kinds.head(store)
      await decided(head)
      expect(reasonOf(head)).to.include(waits)
    })

  it('nor while one that was wiped tells of another head', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    const second = await kinds.goOnWithA()
    second.kill()
    const a = kinds.disks['a']!
    for (const content of [a.cached, a.stable]) content.fill(0)
    const head = await kinds.head(store)
    await decided(head)
    expect(reasonOf(head)).to.include('another head may have had the legs since')
    expect(reasonOf(head)).to.include('a is blank')
  })

  for (const [others, served] of [
    ['none', true],
    ['another head', false],
  ] as const)
    it(`is ${served ? '' : 'not '}served while an unreadable one tells of ${others}`, async () => {
      const kinds = new Kinds({ a: 'remote', b: 'nbd' })
      const store = await kinds.served()
      if (!served) (await kinds.goOnWithA()).kill()
      const a = kinds.disks['a']!
      const slots = [0, 1].map((slot) => superblockOffset(a.size, slot))
      a.fault = ({ operation, offset }) =>
        operation === Operation.read && slots.includes(offset)
          ? new StorageError('IO', 'bad sector')
          : null
      const head = await kinds.head(store)
      await decided(head)
      expect(head.device.usable, reasonOf(head)).to.equal(served)
    })

  it('is served alone by an operator’s word, and clients are told', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    const lifeNow = async (): Promise<string> =>
      (JSON.parse((await store.load('m'))!) as { bootId: string }).bootId
    const life = await lifeNow()
    const head = await kinds.head(store, ['a'])
    await head.until('it waits', () => reasonOf(head).includes(waits))
    await head.driver.startVolume({ force: true, leg: 'b' })
    expect(await lifeNow()).not.to.equal(life)
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
  })

  for (const [what, kinds, away] of [
    ['with a file of this machine away', { a: 'file', b: 'nbd' }, ['a']],
    ['with another such leg away', { a: 'nbd', b: 'nbd' }, ['a']],
    ['with one that could, and did', { a: 'remote', b: 'nbd', c: 'remote' }, ['c']],
    ['with a file of this machine', { a: 'file', b: 'nbd', c: 'remote' }, ['c']],
  ] as const)
    it(`is served ${what}`, async () => {
      const legs = new Kinds(kinds)
      const head = await legs.head(await legs.served(), away)
      await decided(head)
      expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    })
})
