import { expect } from 'chai'
import fc from 'fast-check'
import { Bitmap } from '../../src/base/bitmap.ts'
import { MiB, TiB } from '../../src/base/size.ts'
import {
  dataSizeFor,
  decodeMap,
  encodePage,
  extentCount,
  mapBytes,
  mapOffset,
  metadataBytes,
  metadataEnd,
  pageBytes,
  pageOfBit,
  slotsFor,
  superblockBytes,
  superblockOffset,
} from '../../src/mirror/layout.ts'
import { entryTextMax, legsMax, reasonMax, type VolumeRecord } from '../../src/mirror/record.ts'
import {
  choose,
  decodeSlot,
  encodeSuperblock,
  highestMark,
  markIn,
  slotLength,
  showsMark,
  type Found,
} from '../../src/mirror/superblock.ts'

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}

function record(legs: number): VolumeRecord {
  const generation = { counter: 3, id: hex(0xabc, 16) }
  return {
    volume: hex(1, 32),
    generation,
    base: generation,
    history: [],
    bootId: hex(2, 32),
    extentSize: MiB,
    dataSize: 8 * MiB,
    blockSize: 512,
    slots: slotsFor(legs),
    members: Array.from({ length: legs }, (_, at) => ({
      id: hex(at + 16, 32),
      name: `leg-${at}`,
      state: 'in-sync' as const,
      reason: 'x'.repeat(legs > 2 ? 300 : 0),
      since: 1_700_000_000_000,
      slot: at,
      left: null,
      size: 16 * MiB,
      bootId: hex(3, 32),
      label: null,
      stamp: null,
    })),
    zeroing: null,
    entries: [],
  }
}

const encoded = encodeSuperblock({ serial: 7, self: hex(16, 32), record: record(2) })!

describe('a superblock', () => {
  it('has these bytes', () => {
    expect(encoded.subarray(0, 8).toString('latin1')).to.equal('DSTLEG\r\n')
    const length = encoded.readUInt32LE(12)
    const head =
      '4453544c45470d0a' + '01000000' + hex(length, 8).match(/../g)!.toReversed().join('')
    expect(encoded.subarray(0, 24).toString('hex')).to.equal(`${head}0700000000000000`)
    expect(encoded.subarray(24, 32).toString('hex')).to.equal('c5b5f40700000000')
    expect(encoded.length % pageBytes).to.equal(0)
    expect(JSON.parse(encoded.subarray(32, 32 + length).toString())).to.deep.equal({
      self: hex(16, 32),
      record: record(2),
    })
  })

  it('reads back', () => {
    const found = decodeSlot(encoded)
    const superblock = { serial: 7, self: hex(16, 32), record: record(2) }
    expect(found).to.deep.equal({ kind: 'superblock', superblock, previous: 0 })
  })

  it('fits 256 legs with long reasons', () => {
    expect(
      encodeSuperblock({ serial: 1, self: hex(16, 32), record: record(legsMax) }),
    ).not.to.equal(null)
  })

  it('does without reasons and history where those do not fit', () => {
    const full = record(legsMax)
    for (const member of full.members) member.reason = '字'.repeat(reasonMax)
    full.entries = Array.from({ length: 16 }, (_, at) => ({
      number: at,
      at: 0,
      kind: 'membership' as const,
      leg: '',
      text: '字'.repeat(entryTextMax),
      generation: 3,
    }))
    const found = decodeSlot(encodeSuperblock({ serial: 1, self: hex(16, 32), record: full })!)
    expect(found.kind).to.equal('superblock')
    full.members.length = 8
    const fewer = decodeSlot(encodeSuperblock({ serial: 1, self: hex(16, 32), record: full })!)
    expect(fewer.kind === 'superblock' && fewer.superblock.record).to.deep.equal(full)
  })

  it('is not believed when any bit is wrong, and never throws', () => {
    const length = 32 + encoded.readUInt32LE(12)
    fc.assert(
      fc.property(fc.nat(length - 1), fc.nat(7), (at, bit) => {
        // Bytes 28 to 31 are not used.
        fc.pre(at < 28 || at > 31)
        const torn = Buffer.from(encoded)
        torn[at]! ^= 1 << bit
        expect(decodeSlot(torn).kind).not.to.equal('superblock')
      }),
      { numRuns: 500 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
        const bytes = Buffer.concat([encoded.subarray(0, 8), noise])
        expect(decodeSlot(bytes).kind).not.to.equal('superblock')
        if (bytes.length >= 16) expect(slotLength(bytes)).to.be.within(0, superblockBytes)
      }),
    )
  })

  it('is told from a torn, an older, a newer and a strange one', () => {
    const good = decodeSlot(encoded)
    const older = decodeSlot(encodeSuperblock({ serial: 6, self: hex(17, 32), record: record(2) })!)
    const blank = decodeSlot(Buffer.alloc(pageBytes))
    const damaged = decodeSlot(Buffer.concat([encoded.subarray(0, 100), Buffer.alloc(pageBytes)]))
    expect([blank.kind, damaged.kind]).to.deep.equal(['blank', 'damaged'])
    const both = { ...good, previous: 6 }
    expect(choose(older, good)).to.deep.equal(both)
    expect(choose(good, older)).to.deep.equal(both)
    expect(choose(damaged, good)).to.deep.equal({ ...good, previous: null })
    expect(choose(damaged, blank).kind).to.equal('blank')
    expect(choose(damaged, damaged).kind).to.equal('damaged')
    expect(choose(good, { kind: 'foreign', version: 2 }).kind).to.equal('foreign')
  })

  it('shows all that was stable, unless a newer one stands beside an older one', () => {
    const shows = (previous: number | null, mark: number): boolean =>
      showsMark({ ...decodeSlot(encoded), previous } as Found, mark)
    // Whole; with the next one torn; written once more, and twice, than anybody has noted.
    expect([shows(6, 7), shows(null, 7), shows(6, 6), shows(6, 5)]).to.not.include(false)
    // Written once more, when the next one was torn.
    expect(shows(null, 6)).to.equal(true)
    // Put back; and put back before a superblock arrived that had been under way.
    expect([shows(6, 8), shows(5, 6), shows(0, 6)]).to.not.include(true)
  })

  it('has to show a mark that a version of before has raised', () => {
    const self = hex(16, 32)
    const known = record(2)
    const shown = { serial: 18, self, record: known }
    const old = { counter: 2, id: hex(0xdef, 16), serial: 15 }
    known.members[0] = { ...known.members[0]!, mark: 15, markedIn: old }
    // Another head has had it since, from an older state on.
    expect(highestMark([markIn(known, self)], { ...shown, serial: 14 })).to.equal(0)
    // That one leaves the generation as it was.
    known.members[0] = { ...known.members[0], mark: 20 }
    expect(highestMark([markIn(known, self)], shown)).to.equal(20)
  })

  it('with a body that makes no sense is damaged, however well it is wrapped', () => {
    const senseless: ((broken: Record<string, unknown>) => void)[] = [
      (broken) => delete broken['volume'],
      (broken) => (broken['extentSize'] = 3),
      (broken) => (broken['dataSize'] = -1),
      (broken) => (broken['dataSize'] = 2 ** 52),
      (broken) => (broken['slots'] = 1e9),
      (broken) => (broken['members'] = [{}]),
      (broken) => (broken['history'] = 'x'),
      (broken) => (broken['generation'] = { counter: 1.5, id: 'x' }),
      (broken) => (broken['members'] = [...record(2).members, ...record(2).members]),
    ]
    for (const breakIt of senseless) {
      const broken = structuredClone(record(2)) as unknown as Record<string, unknown>
      breakIt(broken)
      const bytes = encodeSuperblock({
        serial: 1,
        self: hex(16, 32),
        record: broken as unknown as VolumeRecord,
      })
      expect(decodeSlot(bytes!).kind).to.equal('damaged')
    }
  })
})

describe('the layout of a leg', () => {
  const sizes = fc.integer({ min: 1, max: 2 ** 45 })
  const extents = fc.integer({ min: 16, max: 26 }).map((power) => 2 ** power)

  it('fits data and metadata without overlap, whatever the size', () => {
    fc.assert(
      fc.property(sizes, extents, fc.integer({ min: 1, max: 256 }), (size, extentSize, legs) => {
        const slots = slotsFor(legs)
        const dataSize = dataSizeFor(size, extentSize, slots)
        if (dataSize === 0) return
        const geometry = { dataSize, extentSize, slots }
        const end = metadataEnd(size)
        expect(dataSize % pageBytes).to.equal(0)
        expect(mapOffset(geometry, end, 0)).to.be.at.least(dataSize)
        expect(mapOffset(geometry, end, 1 + slots)).to.equal(superblockOffset(end, 0))
        expect(superblockOffset(end, 1) + superblockBytes).to.equal(end)
        expect(end).to.be.at.most(size)
        expect((pageOfBit(extentCount(geometry) - 1) + 1) * pageBytes).to.be.at.most(
          mapBytes(geometry),
        )
      }),
    )
  })

  it('takes less than a MiB per TiB for each map', () => {
    const geometry = { dataSize: TiB, extentSize: MiB, slots: 16 }
    expect(mapBytes(geometry)).to.be.below(MiB / 4)
    expect(metadataBytes(geometry)).to.be.below(4 * MiB)
  })

  it('reads maps back, and takes a torn sector for all ones', () => {
    const extent = fc.nat(40_000)
    fc.assert(
      fc.property(fc.uniqueArray(extent, { maxLength: 50 }), fc.nat(9), (bits, sector) => {
        const map = new Bitmap(40_001)
        for (const bit of bits) map.set(bit)
        const pages = pageOfBit(40_000) + 1
        const bytes = Buffer.alloc(pages * pageBytes)
        for (let page = 0; page < pages; page++)
          encodePage(map, 3, page, bytes.subarray(page * pageBytes, (page + 1) * pageBytes))
        const back = new Bitmap(40_001)
        expect(decodeMap(bytes, 3, back)).to.equal(0)
        expect(Buffer.from(back.bytes).equals(map.bytes)).to.equal(true)
        bytes.fill(0xee, sector * 512, sector * 512 + 200)
        const torn = new Bitmap(40_001)
        expect(decodeMap(bytes, 3, torn)).to.equal(1)
        for (const bit of bits) expect(torn.has(bit)).to.equal(true)
        const elsewhere = new Bitmap(40_001)
        expect(decodeMap(bytes, 4, elsewhere)).to.be.above(8)
      }),
      { numRuns: 30 },
    )
  })
})
