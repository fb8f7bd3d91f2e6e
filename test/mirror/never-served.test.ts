import { expect } from 'chai'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { rules } from '../../src/mirror/rules/table.ts'
import { choose, decodeSlot } from '../../src/mirror/superblock.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, MemoryStore, pattern } from './head.ts'

type Legs = Readonly<Record<'a' | 'b' | 'c', Disk>>

function isSuperblock({ size }: Disk, operation: Operation, offset: number): boolean {
  const slots = [0, 1].map((slot) => superblockOffset(size, slot))
  return operation === Operation.write && slots.includes(offset)
}

/** The generation that the disk's newest superblock shows. */
function shownBy({ stable, size }: Disk): number {
  const found = choose(
    decodeSlot(stable.subarray(superblockOffset(size, 0))),
    decodeSlot(stable.subarray(superblockOffset(size, 1))),
  )
  return found.kind === 'superblock' ? found.superblock.record.generation.counter : 0
}

const { beginRound } = rules

/** Tells a leg that joins at the same time as the others. */
function beginAtOnce(...[run, turn]: Parameters<typeof beginRound>): void {
  beginRound(run, turn)
  if (run.round !== null) run.round.joining = []
}

/**
 * A head dies when it is about to say that c, which it has filled, is in sync: c has the generation
 * that says so, and no other leg has. Legs that join are told last, which alone would rule it out.
 */
async function cutOff(): Promise<Legs> {
  rules.beginRound = beginAtOnce
  const legs = disks('a', 'b', 'c') as unknown as Legs
  const { a, b, c } = legs
  const head = await new Head(legs, new MemoryStore()).open()
  await head.inSync('a', 'b', 'c')
  c.goAway()
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  // What it lacks is copied after its superblock says that it is being filled.
  c.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
  c.comeBack()
  await head.until('c is being filled', () => head.state('c') === 'syncing')
  for (const disk of [a, b])
    disk.hold = ({ operation, offset }) => isSuperblock(disk, operation, offset)
  c.letGo()
  const { generation } = head.driver.describe() as { generation: number }
  await head.until('c has the generation', () => shownBy(c) > generation)
  head.kill()
  rules.beginRound = beginRound
  for (const disk of [a, b]) disk.hold = () => false
  return legs
}

/** A head without a memory goes on with a and b, and stops. */
async function goneOn(legs: Legs): Promise<void> {
  const head = await new Head(legs, new MemoryStore(), {}, ['c']).open()
  await head.inSync('a', 'b')
  await write(head.device, 0, pattern(2))
  await head.device.close()
}

describe('a leg with a generation that was never served, as its head died before', () => {
  it('is filled by a volume that has gone on without it', async () => {
    const legs = await cutOff()
    const head = await new Head(legs, new MemoryStore(), {}, ['c']).open()
    await head.inSync('a', 'b')
    await write(head.device, 0, pattern(2))
    legs.c.comeBack()
    await head.inSync('a', 'b', 'c')
    expect(head.lastResync('c')).to.include({ kind: 'full' })
    expect(head.lastResync('c')!.cause).to.include('was never served')
    await head.device.close()
    expect(legs.c.cached[0]).to.equal(2)
  })

  it('keeps no volume from starting', async () => {
    const legs = await cutOff()
    await goneOn(legs)
    const head = await new Head(legs, new MemoryStore()).open()
    await head.inSync('a', 'b', 'c')
    expect((await read(head.device, 0, 4096))[0]).to.equal(2)
    await head.device.close()
    expect(legs.c.cached[0]).to.equal(2)
  })

  it('is a side of its own where an operator had the others start without it', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const { a, b } = legs
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await first.inSync('a', 'b')
    await first.device.close()
    const older = Buffer.from(b.stable)
    const second = await new Head(legs, store).open()
    await write(second.device, 0, pattern(1))
    await flush(second.device)
    second.kill()
    // What a alone has is acknowledged, and b has forgotten it.
    older.copy(b.cached)
    older.copy(b.stable)
    for (const disk of [a, b]) disk.epoch = disk.last = 0
    const head = await new Head(legs, new MemoryStore(), {}, ['a']).open()
    await head.driver.startVolume({ force: true })
    await write(head.device, 4096, pattern(2))
    a.comeBack()
    await head.until('a is refused', () => head.leg('a').reason.includes('split brain'))
    await head.device.close()
    expect(a.cached[0]).to.equal(1)
  })
})
