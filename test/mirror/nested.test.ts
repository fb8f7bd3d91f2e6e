import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { disks, extentSize, later, outcome, pattern } from './head.ts'
import { Nest } from './nest.ts'
import { MemoryStore } from '../support/memory-store.ts'

describe('a mirror of mirrors', () => {
  // After more starts claims of before are forgotten.
  for (const starts of [0, 66])
    it(`does not serve what another head has had since, and lost: ${starts} starts`, async () => {
      const legs = disks('a', 'b')
      const older = new MemoryStore()
      await older.save('m_head', '1048000 0')
      await older.save('m_a_head', '1048000 0')
      await older.save('m_b_head', '1048000 0')
      for (let before = 0; before < starts; before++) {
        const head = await new Nest(legs, older).open()
        await head.device.close()
      }
      const first = await new Nest(legs, older).open()
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      const { size } = first.inner.get('b')!.facts!
      await first.device.close()
      const slots = [0, 1].map((slot) => superblockOffset(size, slot))
      legs['b']!.fault = ({ operation, offset }) =>
        operation === Operation.write && slots.includes(offset)
          ? new StorageError('IO', 'bad')
          : null
      const second = await new Nest(legs, new MemoryStore()).open()
      await second.until('it runs', () => second.device.usable)
      await write(second.device, 0, pattern(2))
      await flush(second.device)
      expect([legs['a']!.cached[0], legs['b']!.cached[0]]).to.deep.equal([2, 1])
      second.kill()
      legs['b']!.fault = () => null
      const third = await new Nest(legs, older, ['a']).open()
      await later(100)
      const found = third.device.usable ? (await read(third.device, 0, 4096))[0] : 'it waits'
      expect(found).to.equal('it waits')
      third.kill()
    })

  for (const [what, act] of [
    ['flush', (head: Nest) => flush(head.device)],
    [
      'forced write',
      (head: Nest) =>
        submit(head.device, Operation.write, 8 * extentSize, 4096, Flag.fua, [pattern(2)]),
    ],
    [
      'forced zeroes',
      (head: Nest) => submit(head.device, Operation.writeZeroes, 8 * extentSize, 4096, Flag.fua),
    ],
  ] as const)
    it(`copies to a leg what it lost with a ${what}, also after a restart`, async () => {
      const legs = disks('a', 'b')
      const { a, b } = legs
      a!.say({ fua: 'emulated' })
      const store = new MemoryStore()
      const head = await new Nest(legs, store).open()
      await write(head.device, 0, pattern(1))
      await write(head.device, 8 * extentSize, pattern(1))
      await flush(head.device)
      await write(head.device, 0, pattern(2))
      a!.dropAtFlush()
      await act(head)
      await head.until('a has it', () => head.state('a') === 'in-sync' && a!.cached[0] === 2)
      expect(b!.cached[0]).to.equal(2)
      expect(head.device.losses).to.equal(0)
      head.kill()
      const next = await new Nest(legs, store).open()
      await next.inSync()
      expect([a!.cached[0], b!.cached[0]]).to.deep.equal([2, 2])
      await next.device.close()
    })

  it('does not acknowledge what a leg lost that restarts while the write waits', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs
    const head = await new Nest(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await flush(head.device)
    b!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    const writing = outcome(write(head.device, 0, pattern(2)))
    await later(20)
    a!.restart()
    await later(20)
    b!.goAway()
    await later(20)
    b!.hold = () => false
    b!.comeBack()
    const wrote = await writing
    await head.inSync()
    const flushed = await outcome(flush(head.device))
    const found = (await read(head.device, 0, 4096))[0]
    expect(a!.cached[0]).to.equal(b!.cached[0])
    if (wrote === 'done' && flushed === 'done' && head.device.losses === 0)
      expect(found).to.equal(2)
    await head.device.close()
  })
})
