import { crc32 } from 'node:zlib'
import { Bitmap } from '../base/bitmap.ts'
import { KiB, MiB, roundDown, roundUp } from '../base/size.ts'

/**
 * Where things lie on a leg. Data begin at 0; metadata end where the leg ends:
 *
 *     | data ... | unused | intent log | dirty map 0 | ... | superblock 0 | superblock 1 |
 *                                                                         leg's end ──▶
 */

/**
 * Metadata are read and written in pages of so many bytes: what the coarsest disks write at once.
 */
export const pageBytes = 4 * KiB
/** Room for one superblock: 256 legs and the end of the history. */
export const superblockBytes = 256 * KiB
/**
 * Bytes that a disk writes whole or not at all. Each sector has its own checksum, so that a torn
 * page makes no bits doubtful in its other sectors.
 */
const sectorBytes = 512
const sectorBits = (sectorBytes - 8) * 8
const sectorMagic = 0x4d54_5344

export const extentSizeMin = 64 * KiB
export const extentSizeMax = 64 * MiB
/**
 * Extents of a volume at most: a bitmap of them has 128 MiB. That is a petabyte at the default
 * size.
 */
export const extentsMax = 2 ** 30

/** The numbers that place metadata; fixed when a volume is created, but for growth. */
export interface Geometry {
  readonly dataSize: number
  readonly extentSize: number
  /** Dirty maps on each leg. */
  readonly slots: number
}

/** The number of extents of a volume. */
export function extentCount(geometry: Geometry): number {
  return Math.ceil(geometry.dataSize / geometry.extentSize)
}

/** Bytes of one bitmap on a leg. */
export function mapBytes(geometry: Geometry): number {
  return roundUp(Math.ceil(extentCount(geometry) / sectorBits) * sectorBytes, pageBytes)
}

/** Bytes of all metadata on a leg. */
export function metadataBytes(geometry: Geometry): number {
  return 2 * superblockBytes + (1 + geometry.slots) * mapBytes(geometry)
}

/** The number of dirty maps on the legs of a new volume: room for as many legs again. */
export function slotsFor(legs: number): number {
  let slots = 16
  while (slots < 2 * legs) slots *= 2
  return slots
}

/** The byte where metadata end on a leg of so many bytes. */
export function metadataEnd(legSize: number): number {
  return roundDown(legSize, pageBytes)
}

/**
 * Bytes of the largest volume that a leg of `legSize` bytes can hold; 0 when it is too small for
 * any.
 */
export function dataSizeFor(legSize: number, extentSize: number, slots: number): number {
  const end = metadataEnd(legSize)
  const bound = { dataSize: Math.max(0, end), extentSize, slots }
  return Math.max(0, roundDown(end - metadataBytes(bound), pageBytes))
}

/** The first byte of a slot, when metadata end at `end`. */
export function superblockOffset(end: number, slot: number): number {
  return end - (2 - slot) * superblockBytes
}

/** The first byte of a map. Map 0 is the intent log, map `1 + n` the dirty map of slot `n`. */
export function mapOffset(geometry: Geometry, end: number, map: number): number {
  return end - metadataBytes(geometry) + map * mapBytes(geometry)
}

/** The page of a map that has the bit. */
export function pageOfBit(bit: number): number {
  return Math.floor(bit / (sectorBits * (pageBytes / sectorBytes)))
}

/** The first byte of a bitmap that belongs to the page. */
export function firstByteOf(page: number): number {
  return (page * (pageBytes / sectorBytes) * sectorBits) / 8
}

/** Encodes one page of a map into `into`, which has `pageBytes`. */
export function encodePage(bits: Bitmap, map: number, page: number, into: Buffer): void {
  into.fill(0)
  for (let sector = 0; sector < pageBytes / sectorBytes; sector++) {
    const index = page * (pageBytes / sectorBytes) + sector
    const from = (index * sectorBits) / 8
    const at = sector * sectorBytes
    into.set(bits.bytes.subarray(from, from + sectorBits / 8), at)
    into.writeUInt32LE(sectorMagic, at + sectorBytes - 8)
    into.writeUInt32LE(sectorChecksum(into, at, map, index), at + sectorBytes - 4)
  }
}

/**
 * Merges a whole map, as read from a leg, into `bits`. A sector that is not whole counts as all
 * ones, which costs copying, never data. Returns the number of those sectors.
 */
export function decodeMap(bytes: Buffer, map: number, bits: Bitmap): number {
  let damaged = 0
  for (let index = 0; index * sectorBits < bits.length; index++) {
    const at = index * sectorBytes
    const whole =
      at + sectorBytes <= bytes.length &&
      bytes.readUInt32LE(at + sectorBytes - 8) === sectorMagic &&
      bytes.readUInt32LE(at + sectorBytes - 4) === sectorChecksum(bytes, at, map, index)
    if (!whole) damaged++
    const content = whole ? bytes.subarray(at, at + sectorBits / 8) : allOnes
    bits.mergeBytes((index * sectorBits) / 8, content)
  }
  return damaged
}

const allOnes = Buffer.alloc(sectorBits / 8, 0xff)
const place = Buffer.alloc(8)

/** Covers the sector and its place: a sector written elsewhere is not taken for it. */
function sectorChecksum(bytes: Buffer, at: number, map: number, index: number): number {
  place.writeUInt32LE(map, 0)
  place.writeUInt32LE(index, 4)
  return crc32(bytes.subarray(at, at + sectorBytes - 4), crc32(place))
}
