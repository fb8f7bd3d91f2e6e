import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, submit, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import {
  disks,
  extentSize,
  failing,
  Head,
  HeldStore,
  later,
  MemoryStore,
  outcome,
  pattern,
} from './head.ts'
import { SeededRandom } from '../support/seeded.ts'

describe('what was copied', () => {
  it('is copied again after a loss, though it was missed while its leg came back', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { intentIdleMs: 5 }).open()
    const { a, b } = legs
    b!.goAway()
    await write(head.device, 0, pattern(1))
    let stamping = false
    let cleaning = false
    b!.hold = ({ operation, offset }) => {
      const stamps = operation === Operation.write && offset >= superblockOffset(b!.size, 0)
      stamping ||= stamps
      return stamps || (stamping && operation === Operation.flush)
    }
    b!.comeBack()
    await head.until('b is about to be told that it is being filled', () => stamping)
    a!.hold = ({ operation }) => {
      cleaning ||= operation === Operation.flush
      return operation === Operation.flush
    }
    await write(head.device, 9 * extentSize, pattern(2))
    await head.until('the log is cleaned', () => cleaning)
    b!.letGo(({ operation }) => operation === Operation.write)
    await head.until('b has it in its cache', () => b!.cached[9 * extentSize] === 2)
    a!.letGo()
    await head.until('the log is clean', () => head.driver.describe()['hotExtents'] === 0)
    b!.powerCut()
    b!.hold = () => false
    b!.comeBack()
    await head.inSync('a', 'b')
    expect(b!.cached[9 * extentSize]).to.equal(2)
    await head.device.close()
  })
})

describe('a repair', () => {
  it('that a leg did not take is made up for when it is back', async () => {
    for (const fails of [true, false]) {
      const legs = disks('a', 'b', 'c')
      const head = await new Head(legs, new MemoryStore()).open()
      const { c } = legs
      c!.cached.fill(7, 0, 4096)
      const repairs = (operation: Operation, offset: number): boolean =>
        operation === Operation.write && offset === 0
      let repairing = false
      if (fails) failing(c!, repairs)
      else
        c!.hold = ({ operation, offset }) => {
          repairing ||= repairs(operation, offset)
          return repairs(operation, offset)
        }
      const verifying = head.driver.verify()
      if (!fails) {
        await head.until('it is repaired', () => repairing)
        c!.goAway()
        c!.hold = () => false
      }
      expect((await verifying).bytesRepaired, 'not repaired yet').to.equal(0)
      c!.fault = () => null
      c!.comeBack()
      await head.inSync('a', 'b', 'c')
      expect(c!.cached[0], fails ? 'failed' : 'went away').to.equal(0)
      await head.device.close()
    }
  })

  it('does not land on a leg that is detached meanwhile', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), {}, [], ['a']).open()
    await write(head.device, 0, pattern(1))
    const { b } = legs
    failing(b!, (operation, offset) => operation === Operation.read && offset === 0)
    b!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.until('it is rewritten', () => head.leg('b')['pending'] === 1)
    let detached = false
    const detaching = head.driver.detachLeg('b').then(() => {
      detached = true
      // Whoever has it now writes to it.
      b!.cached.fill(7, 0, 4096)
    })
    await later(30)
    expect(detached).to.equal(false)
    b!.letGo()
    await detaching
    await later(10)
    expect(b!.cached[0]).to.equal(7)
    await head.device.close()
  })
})

describe('a write that the last leg fails', () => {
  it('is taken back from one that had it and left, also without an intent log', async () => {
    for (const intentLog of [true, false]) {
      const legs = disks('a', 'b')
      const head = await new Head(legs, new MemoryStore(), { intentLog }).open()
      await write(head.device, 0, pattern(1))
      legs['a']!.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
      const writing = outcome(write(head.device, 0, pattern(2)))
      await head.until('b has it', () => legs['b']!.cached[0] === 2)
      legs['b']!.goAway()
      await head.until('b left', () => head.state('b') === 'missing')
      failing(legs['a']!, (operation, offset) => operation === Operation.write && offset === 0)
      legs['a']!.letGo()
      expect(await writing).to.equal('IO')
      legs['a']!.fault = () => null
      legs['b']!.comeBack()
      await head.inSync('a', 'b')
      expect((await read(head.device, 0, 4096))[0]).to.equal(1)
      expect([legs['a']!.cached[0], legs['b']!.cached[0]]).to.deep.equal([1, 1])
      await head.device.close()
    }
  })
})

describe('a write that one leg alone has', () => {
  it('is not begun before it is durable that the others left', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const first = await new Head(legs, store).open()
    const { a, b } = legs
    store.shut()
    b!.goAway()
    await first.until('b left', () => first.state('b') === 'missing')
    void outcome(write(first.device, 9 * extentSize, pattern(2)))
    await later(30)
    first.kill()
    store.gate = Promise.resolve()
    const second = await new Head(legs, store, {}, ['a']).open()
    await second.until('it starts from b', () => second.device.usable)
    a!.comeBack()
    await second.inSync('a', 'b')
    expect(a!.cached[9 * extentSize]).to.equal(b!.cached[9 * extentSize])
    await second.device.close()
  })
})

describe('copies while everything happens', () => {
  const end = 2 * MiB
  const settings = { resyncChunkBytes: 16 * KiB, resyncWindow: 3, resyncCheckpointMs: 3 }

  /** What clients wrote, where it is certain; what is being written is nobody's. */
  async function clients(device: Device, random: SeededRandom, until: () => boolean) {
    const truth = Buffer.alloc(end)
    while (!until()) {
      const offset = 512 * Math.floor((random.fraction() * end) / 512)
      const length = Math.min(end - offset, 512 * (1 + Math.floor(random.fraction() ** 3 * 400)))
      const fill = 1 + Math.floor(random.fraction() * 255)
      const dice = random.fraction()
      if (dice < 0.25) {
        await submit(device, Operation.writeZeroes, offset, length)
        truth.fill(0, offset, offset + length)
      } else if (dice < 0.35) {
        await submit(device, Operation.trim, offset, length)
        truth.fill(0, offset, offset + length)
      } else {
        await write(device, offset, pattern(fill, length))
        truth.fill(fill, offset, offset + length)
      }
      if (random.fraction() < 0.1) await flush(device)
      if (random.fraction() < 0.3) await later(1)
    }
    return truth
  }

  async function trouble(head: Head, disk: Disk, random: SeededRandom): Promise<void> {
    for (let round = 0; round < 12; round++) {
      const dice = random.fraction()
      if (dice < 0.3) disk.goAway()
      else if (dice < 0.55) disk.powerCut()
      else if (dice < 0.7) disk.restart()
      else await outcome(head.driver.invalidateLeg('b'))
      await later(random.fraction() * 12)
      disk.comeBack()
      if (round % 2 === 0) await head.inSync('a', 'b')
      await later(random.fraction() * 25)
    }
  }

  for (const blocks of [true, false])
    it(`end with equal legs that have all, ${blocks ? 'by block' : 'by extent'}`, async () => {
      for (let seed = 1; seed <= 3; seed++) {
        const random = new SeededRandom(seed)
        const legs = disks('a', 'b')
        const { a, b } = legs as { a: Disk; b: Disk }
        b.tellsZeroes = seed !== 2
        a.tellsZeroes = seed !== 3
        const more = blocks ? {} : { missedBytesMax: 0 }
        const head = await new Head(legs, new MemoryStore(), { ...settings, ...more }).open()
        let over = false
        const writing = clients(head.device, random, () => over)
        await trouble(head, b, new SeededRandom(100 + seed))
        over = true
        const truth = await writing
        await head.inSync('a', 'b')
        for (const disk of [a, b])
          expect(disk.cached.subarray(0, end).equals(truth), `seed ${seed}`).to.equal(true)
        await head.device.close()
      }
    })
})
