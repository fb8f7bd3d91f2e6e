import { assert } from './errors.ts'
import { KiB, MiB } from './size.ts'

/**
 * A hold on bytes that somebody else owns. Whoever keeps bytes beyond the call that lent them
 * retains the lease and releases it exactly once; the bytes do not change in between.
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
const ordersMax = Math.log2(arenaBytes / pageBytes) + 1
/** Released blocks kept with their views, per size, so that steady traffic creates no object. */
const keptBytesMax = 32 * MiB

// Neither the language's nor Node's types describe WebAssembly outside a browser.
declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
}

/** The memory of all arenas. */
const arenaMemory = new WeakSet<ArrayBufferLike>()

/** Whether the bytes start, and end, at a multiple of `alignment`, up to `pageBytes`, in memory. */
export function isAligned(bytes: Buffer, alignment: number): boolean {
  // Where memory from elsewhere starts nobody can tell.
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
    if (--this.holds === 0) this.slab.takeBack(this)
  }
}

/**
 * Page-aligned blocks of power-of-two sizes for payloads and direct I/O. Arenas are WebAssembly
 * memories: the one page-aligned allocation Node has. Memory is touched only when a block is used.
 */
export class Slab {
  private readonly arenas: Arena[] = []
  private readonly kept: Block[][] = Array.from({ length: ordersMax }, () => [])
  /** Bytes in blocks that somebody holds. */
  bytesHeld = 0
  bytesHeldPeak = 0

  /** A block of at least `length` bytes with one hold, the caller's. */
  take(length: number): Block {
    assert(length > 0 && length <= blockBytesMax, `a block of ${length} bytes`)
    const order = orderOf(length)
    const block = this.kept[order]!.pop() ?? this.carve(order)
    block.holds = 1
    this.bytesHeld += pageBytes << order
    if (this.bytesHeld > this.bytesHeldPeak) this.bytesHeldPeak = this.bytesHeld
    return block
  }

  /** @internal */
  takeBack(block: Block): void {
    const bytes = pageBytes << block.order
    this.bytesHeld -= bytes
    const kept = this.kept[block.order]!
    if (kept.length * bytes < keptBytesMax) kept.push(block)
    else block.arena.free(block.page, block.order)
  }

  private carve(order: number): Block {
    let block = this.carveFrom(order)
    if (block === null) {
      // Before more memory is taken, what is kept in other sizes becomes whole again.
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
      if (page !== -1) return new Block(this, arena, page, order)
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

/**
 * A buddy allocator over one memory (Knuth, The Art of Computer Programming 1, 2.5). Free pieces of
 * one order form a list threaded through `next` and `previous`, indexed by the piece's first page.
 */
class Arena {
  readonly memory: ArrayBuffer
  private readonly heads = new Int32Array(ordersMax).fill(-1)
  private readonly next: Int32Array
  private readonly previous: Int32Array
  /** The order of the free piece that starts at a page, -1 elsewhere. */
  private readonly freeOrder: Int8Array

  constructor() {
    const pages = arenaBytes / pageBytes
    const wasmPages = arenaBytes / (64 * KiB)
    this.memory = new WebAssembly.Memory({ initial: wasmPages, maximum: wasmPages }).buffer
    arenaMemory.add(this.memory)
    this.next = new Int32Array(pages)
    this.previous = new Int32Array(pages)
    this.freeOrder = new Int8Array(pages).fill(-1)
    this.link(0, ordersMax - 1)
  }

  /** First page of a piece of 2^order pages, or -1. */
  allocate(order: number): number {
    let from = order
    while (from < ordersMax && this.heads[from] === -1) from++
    if (from === ordersMax) return -1
    const page = this.heads[from]!
    this.unlink(page, from)
    while (from > order) {
      from--
      this.link(page + (1 << from), from)
    }
    return page
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
    this.freeOrder[page] = order
  }

  private unlink(page: number, order: number): void {
    const next = this.next[page]!
    const previous = this.previous[page]!
    if (next !== -1) this.previous[next] = previous
    if (previous === -1) this.heads[order] = next
    else this.next[previous] = next
    this.freeOrder[page] = -1
  }
}
