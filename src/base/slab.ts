import { assert } from './errors.ts'
import { KiB, MiB } from './size.ts'

/**
 * A hold on lent bytes. To keep bytes beyond the call that lent them, retain the lease and release
 * it exactly once; the bytes do not change in between.
 */
export interface Lease {
  retain(): void
  release(): void
}

/** The smallest block, and the alignment of every block: what direct I/O asks of a buffer. */
export const pageBytes = 4 * KiB
/** The largest block. */
export const blockBytesMax = 32 * MiB

const arenaBytes = 64 * MiB
const arenaPages = arenaBytes / pageBytes
const ordersMax = Math.log2(arenaPages) + 1
/** Idle bytes, added to a quarter of the bytes in parts, above which no further part is taken. */
const idleBytesMax = 256 * MiB
/** Bytes of released blocks kept per size, with their views: steady traffic creates no object. */
const keptBytesMax = 32 * MiB

// Neither the language's nor Node's types describe WebAssembly outside a browser.
declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
}

/** The memory of all arenas. */
const arenaMemory = new WeakSet<ArrayBufferLike>()

/** True if the bytes start and end in memory at a multiple of `alignment`, up to `pageBytes`. */
export function isAligned(bytes: Buffer, alignment: number): boolean {
  // The address of memory outside the arenas is not known.
  return (
    bytes.byteOffset % alignment === 0 &&
    bytes.length % alignment === 0 &&
    arenaMemory.has(bytes.buffer)
  )
}

/** A page-aligned piece of an arena with one owner or several. Its bytes start out arbitrary. */
export class Block implements Lease {
  readonly bytes: Buffer
  private readonly slab: Slab
  /** @internal */ readonly arena: Arena
  /** @internal */ readonly page: number
  /** @internal */ readonly order: number
  /** @internal */ holds = 0
  /**
   * Set by the owner that will not write to the block again, held or not: only then may parts
   * outlive it.
   */
  final = false
  /** @internal It may outlive the block it was a part of. */
  isPart = false
  /** @internal The order of all its parts; -1 while it has none. */
  partOrder = -1
  /** @internal Its parts, by their place in it. */
  readonly parts: (Block | undefined)[] = []
  /** @internal Its owner has left it to the other holders, see `Slab.leave`. */
  isLeft = false

  constructor(slab: Slab, arena: Arena, page: number, order: number) {
    this.slab = slab
    this.arena = arena
    this.page = page
    this.order = order
    this.bytes = Buffer.from(arena.memory, page * pageBytes, pageBytes << order)
  }

  retain(): void {
    assert(this.holds > 0, 'a block is retained by a holder')
    this.holds++
  }

  release(): void {
    assert(this.holds > 0, 'a block is released once per hold')
    if (--this.holds > 0) return
    if (this.isLeft) this.slab.bytesLeft -= pageBytes << this.order
    this.isLeft = false
    this.slab.takeBack(this)
  }

  /** True while the caller's hold is the only one. */
  get isHeldOnce(): boolean {
    return this.holds === 1
  }

  /**
   * Makes the `length` bytes at `at` of `bytes` a block of their own with a hold for the caller:
   * the memory around them is free as soon as the other holds are gone. Returns null unless the
   * block is `final`, the bytes are a power of two of pages in it, aligned to their length, all
   * parts taken from it have the same length, and not too much memory lies idle already.
   */
  part(bytes: Buffer, at: number, length: number): Block | null {
    const from = bytes.byteOffset + at - this.bytes.byteOffset
    const within = from >= 0 && from + length <= this.bytes.length
    if (!this.final || !within || bytes.buffer !== this.bytes.buffer) return null
    const order = orderOf(length)
    if (length !== pageBytes << order || from % length !== 0) return null
    if (this.partOrder !== -1 && this.partOrder !== order) return null
    if (this.slab.bytesIdle > idleBytesMax + this.slab.bytesInParts / 4) return null
    if (order === this.order) this.slab.becomePart(this)
    const part = order === this.order ? this : this.partAt(from / length, order)
    part.holds++
    return part
  }

  private partAt(place: number, order: number): Block {
    this.partOrder = order
    const existing = this.parts[place]
    if (existing !== undefined) return existing
    const part = this.arena.blockAt(this.slab, this.page + (place << order), order)
    // The hold of this block, until it is taken back.
    part.holds = 1
    part.isPart = true
    part.final = true
    this.parts[place] = part
    return part
  }
}

/**
 * Page-aligned blocks of power-of-two sizes for payloads and direct I/O. Arenas are WebAssembly
 * memories: the one page-aligned allocation Node has. Memory is touched only when a block is used.
 */
export class Slab {
  private readonly arenas: Arena[] = []
  private readonly kept: Block[][] = Array.from({ length: ordersMax }, () => [])
  /** Bytes in blocks that are held. */
  bytesHeld = 0
  /** Held bytes of blocks that their owner has left to the other holders. */
  bytesLeft = 0
  /** Bytes in parts that have outlived their block. */
  bytesInParts = 0

  /** Bytes of the arenas that are not held, in blocks or in parts. */
  get bytesIdle(): number {
    return this.arenas.length * arenaBytes - this.bytesHeld - this.bytesInParts
  }

  /** Returns a block of at least `length` bytes with one hold, the caller's. */
  take(length: number): Block {
    assert(length > 0 && length <= blockBytesMax, `a block of ${length} bytes`)
    const order = orderOf(length)
    const block = this.kept[order]!.pop() ?? this.carve(order)
    block.holds = 1
    block.final = false
    block.isPart = false
    this.bytesHeld += pageBytes << order
    return block
  }

  /** Releases the owner's hold of a block that others may hold for a part of its bytes. */
  leave(block: Block): void {
    if (block.holds > 1) {
      block.isLeft = true
      this.bytesLeft += pageBytes << block.order
    }
    block.release()
  }

  /** @internal */
  takeBack(block: Block): void {
    const bytes = pageBytes << block.order
    if (block.isPart) this.bytesInParts -= bytes
    else this.bytesHeld -= bytes
    if (block.partOrder !== -1) {
      this.disband(block)
      return
    }
    const kept = this.kept[block.order]!
    // A part goes back to the arena, where it joins its free neighbours.
    if (!block.isPart && kept.length * bytes < keptBytesMax) kept.push(block)
    else block.arena.free(block.page, block.order)
  }

  /** @internal From now on the block is counted and taken back as a part. */
  becomePart(block: Block): void {
    if (block.isPart) return
    block.isPart = true
    this.bytesHeld -= pageBytes << block.order
    this.bytesInParts += pageBytes << block.order
  }

  /** Frees a block except for the parts that are still held. */
  private disband(block: Block): void {
    const { parts, partOrder: order } = block
    block.partOrder = -1
    for (let place = 0; place < 1 << (block.order - order); place++) {
      const part = parts[place]
      parts[place] = undefined
      if (part === undefined) block.arena.free(block.page + (place << order), order)
      else {
        this.bytesInParts += pageBytes << order
        part.release()
      }
    }
  }

  private carve(order: number): Block {
    let block = this.carveFrom(order)
    if (block === null) {
      // Before more memory is taken, free the blocks that are kept in other sizes.
      this.letGoOfKept()
      block = this.carveFrom(order)
    }
    if (block !== null) return block
    this.arenas.push(new Arena())
    return this.carveFrom(order)!
  }

  private carveFrom(order: number): Block | null {
    for (const arena of this.arenas) {
      const page = arena.allocate(order)
      if (page !== -1) return arena.blockAt(this, page, order)
    }
    return null
  }

  private letGoOfKept(): void {
    for (const kept of this.kept) {
      for (const block of kept) block.arena.free(block.page, block.order)
      kept.length = 0
    }
  }
}

function orderOf(length: number): number {
  return length <= pageBytes ? 0 : 32 - Math.clz32((length - 1) >>> 12)
}

/** From this order on (64 KiB) an arena keeps its block objects for ever. */
const orderLasting = 4

/**
 * A buddy allocator over one memory (Knuth, The Art of Computer Programming 1, 2.5). Free pieces of
 * one order form a list threaded through `next` and `previous`, indexed by the piece's first page.
 */
class Arena {
  readonly memory: ArrayBuffer
  private readonly heads = new Int32Array(ordersMax).fill(-1)
  /** Bit `order` is set while the list of that order is not empty. */
  private orders = 0
  private readonly next: Int32Array
  private readonly previous: Int32Array
  /** The order of the free piece that starts at a page, -1 elsewhere. */
  private readonly freeOrder: Int8Array
  /** The lasting block objects, by order and by place among the pieces of that order. */
  private readonly blocks: (Block | undefined)[][] = Array.from(
    { length: ordersMax },
    (_, order) => new Array<Block | undefined>(order < orderLasting ? 0 : arenaPages >>> order),
  )

  constructor() {
    const wasmPages = arenaBytes / (64 * KiB)
    this.memory = new WebAssembly.Memory({ initial: wasmPages, maximum: wasmPages }).buffer
    arenaMemory.add(this.memory)
    this.next = new Int32Array(arenaPages)
    this.previous = new Int32Array(arenaPages)
    this.freeOrder = new Int8Array(arenaPages).fill(-1)
    this.link(0, ordersMax - 1)
  }

  /** Allocates 2^order pages in a row. Returns the first, or -1 when no piece is that large. */
  allocate(order: number): number {
    const fits = (this.orders >>> order) << order
    if (fits === 0) return -1
    let from = 31 - Math.clz32(fits & -fits)
    const page = this.heads[from]!
    this.unlink(page, from)
    while (from > order) {
      from--
      this.link(page + (1 << from), from)
    }
    return page
  }

  /** Returns the block of an allocated piece, perhaps a used one: the caller sets its fields. */
  blockAt(slab: Slab, page: number, order: number): Block {
    if (order < orderLasting) return new Block(slab, this, page, order)
    const blocks = this.blocks[order]!
    return (blocks[page >>> order] ??= new Block(slab, this, page, order))
  }

  free(page: number, order: number): void {
    while (order < ordersMax - 1) {
      const buddy = page ^ (1 << order)
      if (this.freeOrder[buddy] !== order) break
      this.unlink(buddy, order)
      page = Math.min(page, buddy)
      order++
    }
    this.link(page, order)
  }

  private link(page: number, order: number): void {
    const head = this.heads[order]!
    this.next[page] = head
    this.previous[page] = -1
    if (head !== -1) this.previous[head] = page
    this.heads[order] = page
    this.orders |= 1 << order
    this.freeOrder[page] = order
  }

  private unlink(page: number, order: number): void {
    const next = this.next[page]!
    const previous = this.previous[page]!
    if (next !== -1) this.previous[next] = previous
    if (previous === -1) {
      this.heads[order] = next
      if (next === -1) this.orders &= ~(1 << order)
    } else this.next[previous] = next
    this.freeOrder[page] = -1
  }
}
