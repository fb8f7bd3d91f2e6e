import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import fc from 'fast-check'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { extentHole, extentRunsMax, extentZero } from '../../src/device/extents.ts'
import { Operation } from '../../src/device/request.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { cryptDevice, format, headerBytes, keyIn } from '../devices/crypt/support.ts'
import { GrainedDriver, grainBytes } from '../support/grained.ts'
import { submit } from '../support/io.ts'
import { SeededRandom } from '../support/seeded.ts'
import { StrictDriver } from '../support/strict.ts'

const random = new SeededRandom(11)
const blockSize = 4 * KiB
const grainsOfBlock = blockSize / grainBytes
const both = extentHole | extentZero

/** Flags of many grains: runs of 1 to 20 grains that begin and end anywhere in blocks. */
const grains: number[] = []
while (grains.length < 5000) {
  const flags = random.below(4)
  for (let left = 1 + random.below(20); left > 0; left--) grains.push(flags)
}

/** Asks on from where each answer ends, and returns the flags of every block. */
async function flagsOfBlocks(device: Device): Promise<number[]> {
  const { size, blockSize } = device.facts!
  const blocks: number[] = []
  for (let offset = 0; offset < size;) {
    const status = await submit(device, Operation.status, offset, size - offset)
    expect(status.error, `at ${offset}`).to.equal(null)
    expect(status.lengths.length, 'an answer covers something').to.be.within(1, extentRunsMax)
    for (const [index, length] of status.lengths.entries()) {
      expect(length, 'whole blocks').to.satisfy((bytes: number) => bytes % blockSize === 0)
      expect(length).to.be.greaterThan(0)
      for (let at = 0; at < length; at += blockSize) blocks.push(status.flags[index]!)
      offset += length
    }
  }
  expect(blocks.length).to.equal(size / blockSize)
  return blocks
}

/** What the driver says of every block from `from` to `to`. */
function expected(driver: GrainedDriver, from: number, to: number): number[] {
  const blocks: number[] = []
  for (let at = from; at < to; at += blockSize) blocks.push(driver.sharedFlags(at, blockSize))
  return blocks
}

async function device(driver: GrainedDriver): Promise<Device> {
  const made = new Device('d', driver, systemClock)
  await made.open()
  return made
}

describe('the block status of a device whose driver knows of smaller blocks', () => {
  it('is of whole blocks, with the flags that all their parts share', async () => {
    const flags = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 100 })
    const runsMax = fc.integer({ min: 1, max: 6 })
    await fc.assert(
      fc.asyncProperty(flags, fc.boolean(), runsMax, async (each, short, most) => {
        const driver = new GrainedDriver(64 * blockSize, each, random, { blockSize })
        if (short) driver.runsMax = most
        const made = await device(driver)
        const blocks = await flagsOfBlocks(made)
        const shared = expected(driver, 0, 64 * blockSize)
        if (!short) expect(blocks).to.deep.equal(shared)
        // Of a block whose end was not told nothing may be claimed that is not so.
        for (const [at, block] of blocks.entries()) expect(block & ~shared[at]!).to.equal(0)
        await made.close()
      }),
      { numRuns: 60 },
    )
  })

  it('tells runs of whole blocks as they are', async () => {
    const driver = new GrainedDriver(MiB, new Array(8).fill(both), random, { blockSize })
    const made = await device(driver)
    const status = await submit(made, Operation.status, blockSize, MiB - blockSize)
    expect(status.lengths).to.deep.equal([MiB - blockSize])
    expect(status.flags).to.deep.equal([both])
    await made.close()
  })

  it('covers what it has room for where rounding makes more runs than there were', async () => {
    const one = grainsOfBlock * 1.5
    const each = Array.from({ length: 2 * one }, (_, at) => (at < one ? extentHole : extentZero))
    const driver = new GrainedDriver(32 * MiB, each, random, { blockSize })
    const made = await device(driver)
    const { lengths } = await submit(made, Operation.status, 0, 32 * MiB)
    expect(lengths.length).to.equal(extentRunsMax)
    expect(await flagsOfBlocks(made)).to.deep.equal(expected(driver, 0, 32 * MiB))
    await made.close()
  })

  it('claims nothing of a block of which the answer tells a part', async () => {
    const each = [...new Array<number>(grainsOfBlock - 1).fill(both), extentHole]
    const driver = new GrainedDriver(MiB, each, random, { blockSize })
    driver.runsMax = 1
    const made = await device(driver)
    const { lengths, flags } = await submit(made, Operation.status, 0, MiB)
    expect(lengths).to.deep.equal([blockSize])
    expect(flags).to.deep.equal([0])
    await made.close()
  })
})

describe('the block status through what raises the block size', () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-block-status-'))
  })
  after(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  it('is of whole sectors of crypt', async () => {
    const driver = new GrainedDriver(headerBytes + 4 * MiB, grains, random)
    const below = await device(driver)
    await format(below)
    const crypt = cryptDevice(below, keyIn(folder), { discard: true })
    await crypt.open()
    expect(crypt.facts!.blockSize).to.equal(blockSize)
    const shared = expected(driver, headerBytes, headerBytes + 4 * MiB)
    expect(await flagsOfBlocks(crypt)).to.deep.equal(shared.map((flags) => flags & extentHole))
    await crypt.close()
  })

  it('is of whole blocks of a linear, also across its parts', async () => {
    const first = new GrainedDriver(3 * MiB, grains, random)
    const second = new StrictDriver(MiB, { blockSize, status: 'emulated' }, random)
    const third = new GrainedDriver(2 * MiB, grains, random)
    const parts = [first, second, third].map(
      (driver, at) => new Device(`l/${at}`, driver, systemClock),
    )
    const linear = new Device('l', new LinearDriver(parts), systemClock)
    await linear.open()
    expect(await flagsOfBlocks(linear)).to.deep.equal([
      ...expected(first, 0, 3 * MiB),
      ...new Array<number>(MiB / blockSize).fill(0),
      ...expected(third, 0, 2 * MiB),
    ])
    await linear.close()
  })
})
