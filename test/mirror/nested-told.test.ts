import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, later, pattern } from './head.ts'
import { Nest } from './nest.ts'
import { MemoryStore } from '../support/memory-store.ts'

type Names = 'a' | 'n' | 'r'

/** A mirror of a remote `a` and of a mirror `b`, of an NBD server's `n` and a remote `r`. */
function nestOf(legs: Record<Names, Disk>, store: MemoryStore, away: string[] = []): Nest {
  return new Nest(legs, store, away, {
    build: ({ leaf, mirror }) => ({
      a: leaf('a'),
      b: mirror('b', { n: leaf('n', 'nbd'), r: leaf('r') }),
    }),
    legRetryMs: 60_000,
  })
}

describe('a mirror above one that finds what another head wrote to its superblocks', () => {
  it('does not serve from it alone, while a leg that went on is away', async () => {
    const legs = disks('a', 'n', 'r') as Record<Names, Disk>
    for (const disk of Object.values(legs)) disk.restarts = 0
    const older = new MemoryStore()
    const first = await nestOf(legs, older).open()
    const b = first.inner.get('b')!
    await first.until('both', () => first.device.usable && first.state('b') === 'in-sync')
    await first.until('r', () => first.state('r', b) === 'in-sync')
    legs.r.goAway()
    await first.until('r left', () => first.state('r', b) === 'missing')
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    const { size } = b.facts!
    await first.device.close()
    // Another head takes both, and loses b before b has a superblock of its own of it.
    const slots = [0, 1].map((slot) => superblockOffset(size, slot))
    legs.n.fault = ({ operation, offset }) =>
      operation === Operation.write && slots.includes(offset) ? new StorageError('IO', 'bad') : null
    const second = await nestOf(legs, new MemoryStore(), ['r']).open()
    await second.until('it serves', () => second.device.usable)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    expect([legs.a.cached[0], legs.n.cached[0]]).to.deep.equal([2, 1])
    second.kill()
    legs.n.fault = () => null
    const third = await nestOf(legs, older, ['a', 'r']).open()
    await third.until('b runs', () => third.inner.get('b')!.usable)
    await later(100)
    const found = third.device.usable ? (await read(third.device, 0, 4096))[0] : 'it waits'
    expect(found).to.equal('it waits')
    third.kill()
  })
})
