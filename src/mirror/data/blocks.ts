import { Bitmap } from '../../base/bitmap.ts'
import { pageBytes } from '../layout.ts'

/** Blocks that an extent is divided into at most. */
export const blocksMax = 256

/** The size of a block in bytes: missed parts of an extent are recorded in blocks. */
export function blockBytesOf(extentSize: number): number {
  return Math.max(pageBytes, extentSize / blocksMax)
}

/** Sets the bits `first` to `last` of a row. */
export function setBlocks(row: Uint8Array, first: number, last: number): void {
  for (let block = first; block <= last; block++)
    if ((block & 7) === 0 && block + 7 <= last) {
      row[block >> 3] = 0xff
      block += 7
    } else row[block >> 3]! |= 1 << (block & 7)
}

/** The first block that is set in a row that is not empty. */
export function firstBlock(row: Uint8Array): number {
  const at = row.findIndex((byte) => byte !== 0)
  const byte = row[at]!
  return at * 8 + 31 - Math.clz32(byte & -byte)
}

/** The last block that is set in a row that is not empty. */
export function lastBlock(row: Uint8Array): number {
  const at = row.findLastIndex((byte) => byte !== 0)
  return at * 8 + 31 - Math.clz32(row[at]!)
}

/** Extents whose rows share one piece of memory, which is kept while one of them is known. */
const chunkExtents = 64

/** What rows of blocks depend on. */
export interface BlockGeometry {
  readonly extents: number
  /** Bytes. */
  readonly extentSize: number
  /** Bytes of memory for rows. */
  readonly bytesMax: number
}

/** The geometry of a volume whose record is known. */
export function blockGeometryOf(volume: {
  readonly extents: number
  readonly extentSize: number
  readonly settings: { readonly missedBytesMax: number }
}): BlockGeometry {
  const { extents, extentSize, settings } = volume
  return { extents, extentSize, bytesMax: settings.missedBytesMax }
}

/**
 * Rows of blocks, for some of the extents: a row has a bit for each block of its extent. An extent
 * with a row is called known. Memory is bounded: when it is used up, no further extent becomes
 * known.
 */
export class Blocks {
  readonly extentSize: number
  readonly blockBytes: number
  private readonly rowBytes: number
  private readonly known: Bitmap
  private readonly chunks: (Uint8Array | undefined)[]
  private readonly chunksMax: number
  private chunksUsed = 0

  constructor({ extents, extentSize, bytesMax }: BlockGeometry) {
    this.extentSize = extentSize
    this.blockBytes = blockBytesOf(extentSize)
    this.rowBytes = extentSize / this.blockBytes / 8
    this.known = new Bitmap(extents)
    this.chunks = new Array<Uint8Array | undefined>(Math.ceil(extents / chunkExtents))
    this.chunksMax = Math.floor(bytesMax / (chunkExtents * this.rowBytes))
  }

  has(extent: number): boolean {
    return this.known.has(extent)
  }

  /** The first known extent at `from` or after it, -1 when there is none. */
  next(from: number): number {
    return this.known.next(from)
  }

  /** Makes the extent known, with no block set. Returns false when there is no room. */
  begin(extent: number): boolean {
    const at = Math.floor(extent / chunkExtents)
    if (this.chunks[at] === undefined) {
      if (this.chunksUsed >= this.chunksMax) return false
      this.chunks[at] = new Uint8Array(chunkExtents * this.rowBytes)
      this.chunksUsed++
    }
    this.row(extent).fill(0)
    this.known.set(extent)
    return true
  }

  /** The row of a known extent: a view of shared memory, not to be kept. */
  row(extent: number): Uint8Array {
    const from = (extent % chunkExtents) * this.rowBytes
    return this.chunks[Math.floor(extent / chunkExtents)]!.subarray(from, from + this.rowBytes)
  }

  add(extent: number, row: Uint8Array): void {
    const own = this.row(extent)
    for (let at = 0; at < own.length; at++) own[at]! |= row[at]!
  }

  forget(extent: number): void {
    if (!this.known.clear(extent)) return
    const at = Math.floor(extent / chunkExtents)
    const next = this.known.next(at * chunkExtents)
    if (next !== -1 && next < (at + 1) * chunkExtents) return
    this.chunks[at] = undefined
    this.chunksUsed--
  }

  forgetAll(): void {
    this.known.clearAll()
    this.chunks.fill(undefined)
    this.chunksUsed = 0
  }

  /** Bytes of the blocks set for a known extent. */
  bytesOf(extent: number): number {
    let ones = 0
    for (const byte of this.row(extent)) for (let rest = byte; rest !== 0; rest &= rest - 1) ones++
    return ones * this.blockBytes
  }
}

/** A set of extents. Of some only certain blocks are meant, of the others everything. */
export class BlockSet {
  readonly extents: Bitmap
  private readonly blocks: Blocks

  constructor(geometry: BlockGeometry) {
    this.extents = new Bitmap(geometry.extents)
    this.blocks = new Blocks(geometry)
  }

  /** The row of an extent in the set; null when all of it is meant. */
  rowOf(extent: number): Uint8Array | null {
    return this.blocks.has(extent) ? this.blocks.row(extent) : null
  }

  /** Adds the blocks of `row` to the set; null adds all of the extent. */
  add(extent: number, row: Uint8Array | null): void {
    const { blocks } = this
    const fresh = this.extents.set(extent)
    if (row === null) blocks.forget(extent)
    else if (blocks.has(extent) || (fresh && blocks.begin(extent))) blocks.add(extent, row)
  }
}
