import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
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
}

const waits = 'another head may have had the legs since, which b cannot tell'

function decided(head: Head): Promise<void> {
  return head.until('it is decided', () => head.device.usable || reasonOf(head).includes('waiting'))
}

function reasonOf(head: Head): string {
  return String(head.driver.describe()['reason'])
}

describe('a leg that cannot tell whether another head had it', () => {
  it('is not served alone while a leg that could is away', async () => {
    const kinds = new Kinds({ a: 'remote', b: 'nbd' })
    const store = await kinds.served()
    // Another head takes both, loses b, and goes on with a.
    const b = kinds.disks['b']!
    const slots = [0, 1].map((slot) => superblockOffset(b.size, slot))
    b.fault = ({ operation, offset }) =>
      operation === Operation.write && slots.includes(offset)
        ? new StorageError('UNAVAILABLE', 'gone')
        : null
    const second = await kinds.head(new MemoryStore())
    await second.until('it serves', () => second.device.usable)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    b.fault = () => null
    const third = await kinds.head(store, ['a'])
    await decided(third)
    expect(reasonOf(third)).to.include(waits)
    kinds.disks['a']!.comeBack()
    await third.until('it serves', () => third.device.usable)
    expect((await read(third.device, 0, 4096))[0]).to.equal(2)
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
