import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { legPatience } from '../../src/mirror/settings.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { Disk } from './disk.ts'
import { disks, extentSize, Head, MemoryStore, outcome, pattern } from './head.ts'

const piece = 256 * 1024

/**
 * Has disks write zeroes in pieces, those of 256 KiB that they have each 60 ms. It is the time of
 * the head: what the machine takes for the bytes of 40 MiB is another matter.
 */
async function writeSlowly(
  { clock }: Head,
  legs: Record<string, Disk>,
  writing: Promise<unknown>,
): Promise<void> {
  const disks = Object.values(legs)
  const state = { over: false }
  void writing.finally(() => (state.over = true))
  while (!state.over) {
    // In steps that its watchdog, which ticks each 19 ms, counts one by one.
    for (let step = 0; step < 6; step++) await clock.skip(10)
    for (const disk of disks) {
      const { hold } = disk
      disk.letGo(({ length }) => length === piece)
      disk.hold = hold
    }
    // They are carried out, and the next ones arrive.
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
  }
}

// A disk without hole punching writes zeroes, and a client may ask for 4 GiB of them: that takes
// longer than a leg may for one request, though every piece is quick.
describe('zeroes of a long range', () => {
  for (const operation of ['writeZeroes', 'trim'] as const)
    it(`do not cost legs that answer every write in time (${operation})`, async () => {
      const legs = { a: new Disk(40 * MiB), b: new Disk(40 * MiB) }
      const settings = { legTimeoutMs: 150, suspendMs: 1000, legRetryMs: 50 }
      const head = new Head(legs, new MemoryStore(), settings)
      head.clock.stop()
      await head.open()
      await write(head.device, 35 * MiB, pattern(1))
      for (const disk of Object.values(legs)) {
        disk.say({ writeZeroes: 'emulated', fastZero: false })
        disk.hold = ({ operation, length }) => operation === Operation.write && length === piece
      }
      const began = head.clock.now()
      const zeroing = submit(head.device, Operation[operation], 0, 36 * MiB, Flag.fua)
      await writeSlowly(head, legs, zeroing)
      const { error } = await zeroing
      expect(head.clock.now() - began).to.be.above(legPatience * settings.legTimeoutMs)
      const left = head.history().filter(({ text }) => /left as|suspended/.test(text))
      expect({ error, left }).to.deep.equal({ error: null, left: [] })
      expect((await read(head.device, 35 * MiB, 4096))[0]).to.equal(0)
      await head.device.close()
    })

  it('are whole on a leg that is away for some of the pieces', async () => {
    const legs = { a: new Disk(40 * MiB), b: new Disk(40 * MiB) }
    const head = await new Head(legs, new MemoryStore()).open()
    const { a, b } = legs
    for (let at = 0; at < 36; at += 4) await write(head.device, at * MiB, pattern(1))
    await flush(head.device)
    for (const disk of [a, b]) disk.say({ fastZero: false })
    let zeroes = 0
    a.hold = ({ operation }) => operation === Operation.writeZeroes && ++zeroes === 2
    const writing = outcome(
      submit(head.device, Operation.writeZeroes, 0, 36 * MiB).then(({ error }) => {
        if (error !== null) throw error
      }),
    )
    await head.until('the second piece is under way', () => zeroes === 2)
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    b.comeBack()
    await head.until('b is back', () => head.state('b') === 'syncing')
    a.letGo()
    a.hold = () => false
    expect(await writing).to.equal('done')
    await head.inSync('a', 'b')
    const pieces = a.log.filter(({ operation }) => operation === Operation.writeZeroes)
    expect(pieces.length).to.be.at.least(5)
    const size = 36 * MiB
    expect(a.cached.subarray(0, size).equals(Buffer.alloc(size)), 'a').to.equal(true)
    expect(b.cached.subarray(0, size).equals(Buffer.alloc(size)), 'b').to.equal(true)
    await head.device.close()
  })

  it('end with the error that the last leg has in the middle of them', async () => {
    const legs = { a: new Disk(40 * MiB) }
    const head = await new Head(legs, new MemoryStore()).open()
    legs.a.say({ fastZero: false })
    let zeroes = 0
    const fail = ({ operation }: { operation: Operation }): boolean =>
      operation === Operation.writeZeroes && ++zeroes === 3
    legs.a.failOnce(fail)
    const { error } = await submit(head.device, Operation.writeZeroes, 0, 36 * MiB)
    expect([error?.code, zeroes]).to.deep.equal(['IO', 3])
    expect(await outcome(write(head.device, 0, pattern(1, extentSize)))).to.equal('done')
    await head.device.close()
  })
})

describe('a leg that could not be used for a while', () => {
  for (const [what, worse, better] of [
    ['was read-only', { readOnly: true }, { readOnly: false }],
    ['had larger blocks', { blockSize: 4096 }, { blockSize: 512 }],
    ['was too small', { size: 2 * MiB }, { size: 4 * MiB }],
  ] as const)
    it(`and ${what} comes back by itself`, async () => {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore()).open()
      const b = legs['b']!
      b.goAway()
      await write(head.device, 0, pattern(2))
      await head.until('b left', () => head.state('b') === 'missing')
      b.say(worse)
      await head.until('b is refused', () => head.state('b') === 'failed')
      b.say(better)
      await head.inSync('a', 'b')
      expect(head.leg('b').reason).to.equal('')
      expect(b.cached[0]).to.equal(2)
      await head.device.close()
    })

  it('and became read-only while it was in sync comes back by itself', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore()).open()
    const b = legs['b']!
    b.say({ readOnly: true })
    await write(head.device, 0, pattern(2))
    await head.until('b is refused', () => head.leg('b').reason === 'it is read-only')
    b.say({ readOnly: false })
    await head.inSync('a', 'b')
    expect(b.cached[0]).to.equal(2)
    await head.device.close()
  })
})
