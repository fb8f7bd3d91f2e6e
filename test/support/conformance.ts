import { expect } from 'chai'
import { KiB, MiB, roundDown, roundUp } from '../../src/base/size.ts'
import type { Lease, Slab } from '../../src/base/slab.ts'
import type { Device, Facts } from '../../src/device/device.ts'
import { extentHole, extentZero } from '../../src/device/extents.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { read, submit, write, type Outcome } from './io.ts'
import { SeededRandom } from './seeded.ts'

/** A device to be held against the contract. */
export interface Subject {
  /** Open and writable, with arbitrary content; the suite closes it. */
  readonly device: Device
  /**
   * Slabs that hold nothing while the device is at rest: checked after the suite. Leave out those
   * of connections, which keep their staging.
   */
  readonly slabs?: readonly Slab[]
  /** Somebody else's server is below, which tells of holes where it was asked to make none. */
  readonly foreign?: boolean
  /** Called after the device was closed: removes files, stops servers. */
  dispose(): Promise<void> | void
}

/** Makes a fresh device of about `size` bytes: not less, and not much more. */
export type Factory = (size: number) => Promise<Subject>

const suiteBytes = 8 * MiB

/**
 * The contract of `Device`, run over whatever the factory makes: a leaf, a composition, or one of
 * them behind a server and a client. One line each:
 *
 *     conformance('memory over DST/1', async (size) => ({ device, dispose }))
 */
export function conformance(name: string, factory: Factory): void {
  describe(`${name} keeps the device contract`, () => {
    let subject: Subject
    let device: Device
    let facts: Facts
    before(async () => {
      subject = await factory(suiteBytes)
      device = subject.device
      facts = device.facts!
    })
    after(async () => {
      await device.close()
      await subject.dispose()
    })

    it('has facts that make sense', () => checkFacts(device))
    it('reads what was written, at odd offsets and lengths', () => readsWrites(device))
    it('takes segments in many pieces', () => manyPieces(device))
    it('reads and writes its first and last block and all of it at once', () => edges(device))
    it('refuses what lies beyond its end', () => refusesBeyond(device))
    it('refuses empty and unaligned ranges and unknown flags', () => refusesInvalid(device))
    it('flushes and forces unit access', () => flushes(device))
    it('writes zeroes', () => writesZeroes(device, subject.foreign === true))
    it('trims, or says that it does not', () => trims(device))
    it('tells which ranges are allocated', () => tellsStatus(device))
    it('carries out many requests at once', () => manyAtOnce(device))
    it('splits what is longer than its payload', () => beyondPayload(device))
    it('agrees with a plain buffer over random operations', () => agreesWithModel(device, 1))
    it('lets go of every byte it was lent', () => {
      expect(device.counters.inFlight).to.equal(0)
      for (const slab of subject.slabs ?? []) expect(slab.bytesHeld).to.equal(0)
      expect(facts.size).to.equal(device.facts!.size)
    })
    it('completes requests in flight when it is closed', async () => {
      const other = await factory(suiteBytes)
      await closesUnderLoad(other.device)
      await other.dispose()
    })
  })
}

/** Counts its holds: at the end every one must be gone, and none twice. */
class CountingLease implements Lease {
  holds = 1

  retain(): void {
    expect(this.holds, 'retained by a holder').to.be.greaterThan(0)
    this.holds++
  }

  release(): void {
    expect(this.holds, 'released once per hold').to.be.greaterThan(0)
    this.holds--
  }
}

function factsOf(device: Device): Facts {
  expect(device.facts, 'the device is open').to.not.equal(null)
  return device.facts!
}

function powerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value))
}

function checkFacts(device: Device): void {
  const facts = factsOf(device)
  expect(facts.size).to.be.at.least(suiteBytes / 2)
  expect(powerOfTwo(facts.blockSize)).to.equal(true)
  expect(powerOfTwo(facts.preferredBlockSize)).to.equal(true)
  expect(facts.preferredBlockSize).to.be.at.least(facts.blockSize)
  expect(facts.size % facts.blockSize).to.equal(0)
  expect(facts.payloadMax).to.be.at.least(4 * KiB)
  expect(facts.payloadMax % facts.blockSize).to.equal(0)
  expect(facts.readOnly).to.equal(false)
  expect(facts.identity).to.match(/^[0-9a-f]{32}$/)
  expect(facts.bootId).to.match(/^[0-9a-f]{32}$/)
  expect(device.usable).to.equal(true)
  JSON.stringify(device.driver.describe())
}

async function readsWrites(device: Device): Promise<void> {
  const { blockSize } = factsOf(device)
  const random = new SeededRandom(2)
  for (const [from, blocks] of [
    [0, 1],
    [1, 1],
    [3, 7],
    [511, 4096],
    [4095, 2],
    [65_535, 70_001],
  ] as const) {
    const offset = from * blockSize
    const length = blocks * blockSize
    if (offset + length > factsOf(device).size) continue
    const data = random.bytes(length)
    await write(device, offset, data)
    expect((await read(device, offset, length)).equals(data), `${offset}+${length}`).to.equal(true)
  }
}

async function manyPieces(device: Device): Promise<void> {
  const { blockSize } = factsOf(device)
  const random = new SeededRandom(3)
  const data = random.bytes(roundUp(200_000, blockSize))
  const pieces: Buffer[] = []
  for (let at = 0; at < data.length;) {
    const length = Math.min(data.length - at, 1 + random.below(300))
    pieces.push(data.subarray(at, at + length))
    at += length
  }
  const lease = new CountingLease()
  const offset = 5 * blockSize
  const outcome = await submit(device, Operation.write, offset, data.length, 0, pieces, lease)
  expect(outcome.error).to.equal(null)
  expect((await read(device, offset, data.length)).equals(data)).to.equal(true)
  expect(lease.holds, 'the write’s lease is released').to.equal(0)
}

async function edges(device: Device): Promise<void> {
  const { size, blockSize } = factsOf(device)
  const random = new SeededRandom(4)
  const whole = random.bytes(size)
  await write(device, 0, whole)
  for (const offset of [0, size - blockSize]) {
    const block = await read(device, offset, blockSize)
    expect(block.equals(whole.subarray(offset, offset + blockSize))).to.equal(true)
    await write(device, offset, block)
  }
  expect((await read(device, 0, size)).equals(whole)).to.equal(true)
}

async function refusesBeyond(device: Device): Promise<void> {
  const { size, blockSize } = factsOf(device)
  for (const [offset, length] of [
    [size, blockSize],
    [size - blockSize, 2 * blockSize],
    [0, size + blockSize],
    [2 ** 52, blockSize],
  ] as const)
    for (const operation of [Operation.read, Operation.status, Operation.writeZeroes])
      expectCode(await submit(device, operation, offset, length), 'RANGE')
  const block = Buffer.alloc(blockSize)
  const lease = new CountingLease()
  const beyond = await submit(device, Operation.write, size, blockSize, 0, [block], lease)
  expectCode(beyond, 'RANGE')
  expect(lease.holds, 'a refused write’s lease is released').to.equal(0)
}

async function refusesInvalid(device: Device): Promise<void> {
  const { blockSize } = factsOf(device)
  const reads: [number, number, number][] = [
    [0, 0, 0],
    [0, blockSize, 0x4000],
    [0, blockSize, Flag.fastZero],
    [-blockSize, blockSize, 0],
  ]
  if (blockSize > 1) reads.push([1, blockSize, 0], [0, blockSize + 1, 0], [0, blockSize - 1, 0])
  for (const [offset, length, flags] of reads)
    expectCode(await submit(device, Operation.read, offset, length, flags), 'INVALID')
  expectCode(await submit(device, Operation.writeZeroes, 0, 0), 'INVALID')
  expectCode(await submit(device, Operation.flush, 0, 0, Flag.fua), 'INVALID')
}

async function flushes(device: Device): Promise<void> {
  const facts = factsOf(device)
  const data = new SeededRandom(5).bytes(roundUp(10_000, facts.blockSize))
  const flushed = await submit(device, Operation.flush, 0, 0)
  if (facts.flush === 'none') expectCode(flushed, 'UNSUPPORTED')
  else expect(flushed.error).to.equal(null)
  const lease = new CountingLease()
  const forced = await submit(device, Operation.write, 0, data.length, Flag.fua, [data], lease)
  if (facts.fua === 'none') expectCode(forced, 'UNSUPPORTED')
  else {
    expect(forced.error).to.equal(null)
    expect((await read(device, 0, data.length)).equals(data)).to.equal(true)
  }
  expect(lease.holds).to.equal(0)
}

async function writesZeroes(device: Device, foreign: boolean): Promise<void> {
  const facts = factsOf(device)
  const { blockSize } = facts
  const data = new SeededRandom(6).bytes(roundUp(MiB, blockSize))
  const from = roundUp(3000, blockSize)
  const length = roundDown(700_000, blockSize)
  for (const flags of [0, Flag.noHole, Flag.fua, Flag.fastZero]) {
    await write(device, 0, data)
    const outcome = await submit(device, Operation.writeZeroes, from, length, flags)
    const expected = Buffer.from(data)
    const refused =
      facts.writeZeroes === 'none' ||
      (flags === Flag.fua && facts.fua === 'none') ||
      // Fast zeroes may be granted; an NBD server says so and refuses where they are not.
      (flags === Flag.fastZero && (!facts.fastZero || outcome.error !== null))
    if (refused) expectCode(outcome, 'UNSUPPORTED')
    else {
      expect(outcome.error).to.equal(null)
      expected.fill(0, from, from + length)
    }
    expect((await read(device, 0, data.length)).equals(expected), `flags ${flags}`).to.equal(true)
    if (refused || foreign || flags !== Flag.noHole || facts.status !== 'native') continue
    const status = await submit(device, Operation.status, from, length)
    expect(
      status.flags.some((flag) => (flag & extentHole) !== 0),
      'a hole was made',
    ).to.equal(false)
  }
}

async function trims(device: Device): Promise<void> {
  const { blockSize, trim } = factsOf(device)
  const data = new SeededRandom(7).bytes(roundUp(MiB, blockSize))
  await write(device, 0, data)
  const from = roundUp(100_000, blockSize)
  const length = roundDown(600_000, blockSize)
  const outcome = await submit(device, Operation.trim, from, length)
  if (trim === 'none') expectCode(outcome, 'UNSUPPORTED')
  else expect(outcome.error).to.equal(null)
  const after = await read(device, 0, data.length)
  expect(after.subarray(0, from).equals(data.subarray(0, from))).to.equal(true)
  expect(after.subarray(from + length).equals(data.subarray(from + length))).to.equal(true)
  if (trim === 'none') expect(after.equals(data), 'a refused trim changes nothing').to.equal(true)
  expect((await read(device, 0, data.length)).equals(after), 'reads repeat').to.equal(true)
}

async function tellsStatus(device: Device): Promise<void> {
  const { size, blockSize } = factsOf(device)
  await write(device, 0, new SeededRandom(8).bytes(roundUp(300_000, blockSize)))
  await submit(device, Operation.trim, 0, roundUp(200_000, blockSize))
  for (const start of [0, roundUp(150_001, blockSize)])
    for (let offset = start; offset < size;) {
      const status = await submit(device, Operation.status, offset, size - offset)
      expect(status.error).to.equal(null)
      expect(status.lengths.length, 'an answer covers something').to.be.greaterThan(0)
      for (const [index, length] of status.lengths.entries()) {
        expect(length).to.be.greaterThan(0)
        expect(length % blockSize, 'whole blocks').to.equal(0)
        expect(offset + length).to.be.at.most(size)
        if ((status.flags[index]! & extentZero) !== 0) await expectZeroes(device, offset, length)
        offset += length
      }
    }
}

async function expectZeroes(device: Device, offset: number, length: number): Promise<void> {
  const bytes = await read(device, offset, length)
  expect(
    bytes.every((byte) => byte === 0),
    `${offset}+${length} reads as zeroes`,
  ).to.equal(true)
}

async function manyAtOnce(device: Device): Promise<void> {
  const { size, blockSize } = factsOf(device)
  const random = new SeededRandom(9)
  const step = roundUp(4 * KiB, blockSize)
  const count = Math.min(1000, Math.floor(size / step))
  const blocks = Array.from({ length: count }, () => random.bytes(step))
  const leases = blocks.map(() => new CountingLease())
  const writes = blocks.map((block, index) =>
    submit(device, Operation.write, index * step, step, 0, [block], leases[index]),
  )
  const flushed = submit(device, Operation.flush, 0, 0)
  for (const outcome of await Promise.all(writes)) expect(outcome.error).to.equal(null)
  await flushed
  expect(leases.every((lease) => lease.holds === 0)).to.equal(true)
  const reads = blocks.map((_, index) => read(device, index * step, step))
  for (const [index, bytes] of (await Promise.all(reads)).entries())
    expect(bytes.equals(blocks[index]!), `block ${index}`).to.equal(true)
}

async function beyondPayload(device: Device): Promise<void> {
  const { size, payloadMax, blockSize } = factsOf(device)
  const length = Math.min(size - blockSize, 2 * payloadMax + blockSize)
  const data = new SeededRandom(10).bytes(length)
  const lease = new CountingLease()
  const outcome = await submit(device, Operation.write, blockSize, length, 0, [data], lease)
  expect(outcome.error).to.equal(null)
  expect(lease.holds).to.equal(0)
  expect((await read(device, blockSize, length)).equals(data)).to.equal(true)
}

/** Random operations in rounds; those of one round run together and do not overlap. */
async function agreesWithModel(device: Device, seed: number): Promise<void> {
  const facts = factsOf(device)
  const random = new SeededRandom(seed)
  const model = await read(device, 0, facts.size)
  const lanes = 8
  const laneBytes = roundDown(facts.size / lanes, facts.blockSize)
  for (let round = 0; round < 40; round++) {
    const work = Array.from({ length: lanes }, (_, lane) => {
      const within = random.below(laneBytes)
      const offset = lane * laneBytes + roundDown(within, facts.blockSize)
      const room = (lane + 1) * laneBytes - offset
      const most = Math.min(room, random.fraction() < 0.1 ? laneBytes : 40_000)
      const length = roundUp(1 + random.below(most), facts.blockSize)
      return randomStep(device, facts, random, model, offset, Math.min(length, room))
    })
    await Promise.all(work)
  }
  expect((await read(device, 0, facts.size)).equals(model)).to.equal(true)
}

async function randomStep(
  device: Device,
  facts: Facts,
  random: SeededRandom,
  model: Buffer,
  offset: number,
  length: number,
): Promise<void> {
  const fua = facts.fua !== 'none' && random.fraction() < 0.1 ? Flag.fua : 0
  const kind = random.fraction()
  if (kind < 0.45) {
    const data = random.bytes(length)
    await write(device, offset, data, fua)
    data.copy(model, offset)
  } else if (kind < 0.55 && facts.writeZeroes !== 'none') {
    const outcome = await submit(device, Operation.writeZeroes, offset, length, fua)
    expect(outcome.error).to.equal(null)
    model.fill(0, offset, offset + length)
  } else if (kind < 0.62 && facts.trim !== 'none') {
    expect((await submit(device, Operation.trim, offset, length)).error).to.equal(null)
    const left = await read(device, offset, length)
    left.copy(model, offset)
  } else {
    const bytes = await read(device, offset, length)
    const same = bytes.equals(model.subarray(offset, offset + length))
    expect(same, `read ${offset}+${length}`).to.equal(true)
  }
}

async function closesUnderLoad(device: Device): Promise<void> {
  const { blockSize } = factsOf(device)
  const length = roundUp(64 * KiB, blockSize)
  const lease = new CountingLease()
  lease.holds = 16
  const pending: Promise<Outcome>[] = []
  for (let at = 0; at < 16; at++) {
    const data = Buffer.alloc(length, at)
    pending.push(submit(device, Operation.write, at * length, length, 0, [data], lease))
    pending.push(submit(device, Operation.read, at * length, length))
  }
  await device.close()
  for (const outcome of await Promise.all(pending))
    if (outcome.error === null) expect(outcome.data.length).to.be.oneOf([0, length])
  expect(lease.holds).to.equal(0)
  const late = await submit(device, Operation.read, 0, length)
  expect(late.error, 'a closed device refuses').to.not.equal(null)
  await device.close()
}

function expectCode(outcome: Outcome, code: string): void {
  expect(outcome.error?.code).to.equal(code)
}
