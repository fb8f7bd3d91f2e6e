import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { tickingClock } from '../support/clock.ts'
import { read, submit, write, type Outcome } from '../support/io.ts'
import { PoorMemory } from '../support/poor-memory.ts'
import { SeededRandom } from '../support/seeded.ts'

const random = new SeededRandom(1)
const { writeZeroes } = Operation

async function open<D extends MemoryDriver>(driver: D): Promise<[Device, D]> {
  const device = new Device('m', driver, tickingClock())
  await device.open()
  return [device, driver]
}

async function fill(device: Device, bytes: number): Promise<void> {
  const piece = Buffer.alloc(32 * MiB, 7)
  for (let at = 0; at < bytes; at += piece.length) await write(device, at, piece)
}

/** By how much `progress` came nearer to the end in that turn of the loop in which it did most. */
async function mostInOneTurn(
  under: readonly Promise<Outcome>[],
  progress: () => number,
): Promise<number> {
  let left = under.length
  for (const one of under) void one.then(() => left--)
  let most = 0
  // What was done before the first turn counts as well.
  for (let before = 0; left > 0;) {
    const now = progress()
    most = Math.max(most, now - before)
    before = now
    await new Promise(setImmediate)
    if (left === 0) most = Math.max(most, progress() - before)
  }
  return most
}

describe('zeroes for a long range', () => {
  it('leave every turn of the loop to others, where they are written', async () => {
    const [device, driver] = await open(new PoorMemory(256 * MiB, random))
    const zeroes = [0, 64, 128].map((at) => submit(device, writeZeroes, at * MiB, 64 * MiB))
    const most = await mostInOneTurn(zeroes, () => driver.written)
    expect(driver.written).to.equal(192 * MiB)
    expect(most).to.be.at.most(8 * MiB)
    await device.close()
  })

  it('leave every turn of the loop to others, where pages are dropped', async () => {
    const [device, driver] = await open(new MemoryDriver(256 * MiB, random))
    await fill(device, 256 * MiB)
    const zeroes = [0, 64, 128].map((at) => submit(device, writeZeroes, at * MiB, 64 * MiB))
    const used = (): number => driver.describe()['bytesUsed'] as number
    const most = await mostInOneTurn(zeroes, () => 256 * MiB - used())
    expect(used()).to.equal(64 * MiB)
    expect(most).to.be.at.most(64 * MiB)
    await device.close()
  })

  for (const driver of [new PoorMemory(64 * MiB, random), new MemoryDriver(64 * MiB, random)])
    for (const flags of [0, Flag.noHole])
      it(`are whole at odd offsets: ${driver.constructor.name}, flags ${flags}`, async () => {
        const [device] = await open(driver)
        await fill(device, 64 * MiB)
        const [from, length] = [64 * KiB + 1, 50 * MiB + 7]
        const outcome = await submit(device, writeZeroes, from, length, flags)
        expect(outcome.error).to.equal(null)
        const expected = Buffer.alloc(64 * MiB, 7).fill(0, from, from + length)
        expect((await read(device, 0, 64 * MiB)).equals(expected)).to.equal(true)
        await device.close()
      })

  it('change the stamp until they are done', async () => {
    const [device, driver] = await open(new MemoryDriver(256 * MiB, random))
    const zeroed = submit(device, writeZeroes, 0, 256 * MiB)
    await new Promise(setImmediate)
    const during = await driver.stamp()
    await zeroed
    expect(await driver.stamp()).not.to.equal(during)
    await device.close()
  })

  it('are in flight until they are done: a device that is closed waits', async () => {
    const [device] = await open(new PoorMemory(256 * MiB, random))
    const zeroed = submit(device, writeZeroes, 0, 256 * MiB)
    await device.close()
    expect((await zeroed).error).to.equal(null)
  })

  it('fail when the device loses some of them in between', async () => {
    const [device, driver] = await open(new PoorMemory(256 * MiB, random))
    const zeroed = submit(device, writeZeroes, 0, 256 * MiB)
    while (driver.written === 0) await new Promise(setImmediate)
    expect(driver.written).to.be.below(256 * MiB)
    driver.reboot('1'.repeat(32))
    expect((await zeroed).error?.code).to.equal('STALE')
    // What begins after that has lost nothing.
    const later = submit(device, writeZeroes, 0, 256 * MiB)
    driver.reboot('2'.repeat(32))
    expect((await later).error).to.equal(null)
    await device.close()
  })
})
