import { longLoops, type LongLoop } from '../base/long-loops.ts'
import { KiB, MiB } from '../base/size.ts'
import type { Random } from '../base/random.ts'
import { Block } from '../base/slab.ts'
import type { Driver, DriverHost } from '../device/device.ts'
import { extentHole, extentZero } from '../device/extents.ts'
import { Flag, Operation, type Request } from '../device/request.ts'

/** Bytes that are allocated together; memory is taken page by page as it is written. */
export const memoryPageBytes = 64 * KiB

/** Zeroes up to this many bytes are made in one turn of the loop: 3 µs per page at most. */
const zeroBytesMax = 16 * MiB

/** The content of unwritten pages. Never written to. */
const zeroPage = Buffer.alloc(memoryPageBytes)

/**
 * A page: memory of the device's own; or a part of the block that a write came in, kept instead of
 * copied. Such a part may have other holders: then it is copied before it is written to. So is
 * `zeroPage`, which stands for zeroes that shall be allocated: one request may be for 65,536 pages,
 * and filling them would keep all other requests waiting.
 */
type Page = Buffer | Block

/**
 * A sparse disk in memory; it is empty after a restart. Reads hand over the pages themselves: a
 * write that is carried out before the bytes were sent may show in them, which is right, because
 * both were in flight together.
 */
export class MemoryDriver implements Driver {
  readonly type = 'memory'
  readonly forgets = true
  readonly children = []
  private readonly size: number
  private readonly identity: string
  private readonly pages: (Page | undefined)[]
  /** @internal */ host: DriverHost | null = null
  private pagesUsed = 0
  /** The number of changes so far, for `stamp`. */
  private changes = 0

  /** `size` in bytes. */
  constructor(size: number, random: Random) {
    this.size = size
    this.identity = random.bytes(16).toString('hex')
    this.pages = new Array<Page | undefined>(Math.ceil(size / memoryPageBytes))
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    host.online({
      size: this.size,
      blockSize: 1,
      preferredBlockSize: 4 * KiB,
      payloadMax: 32 * MiB,
      readOnly: false,
      flush: 'native',
      fua: 'native',
      trim: 'native',
      writeZeroes: 'native',
      fastZero: true,
      status: 'native',
      rotational: false,
      identity: this.identity,
      bootId: this.identity,
    })
    return Promise.resolve()
  }

  close(): Promise<void> {
    // By key: a sparse array of many pages has few of them.
    for (const index of Object.keys(this.pages)) this.replace(Number(index), undefined)
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return { bytesUsed: this.pagesUsed * memoryPageBytes }
  }

  stamp(): Promise<string> {
    return Promise.resolve(`${this.identity}:${this.changes}`)
  }

  submit(request: Request): void {
    switch (request.operation) {
      case Operation.read:
        this.read(request)
        break
      case Operation.write:
        this.changes++
        this.write(request)
        break
      case Operation.trim:
      case Operation.writeZeroes:
        if (request.length > zeroBytesMax) {
          longLoops(this.host!.clock).add(new Zeroing(this, request))
          return
        }
        this.zero(request.offset, request.length, request.flags)
        break
      case Operation.status:
        this.tellExtents(request)
        break
      case Operation.flush:
        break
    }
    request.complete()
  }

  private read(request: Request): void {
    let { offset } = request
    const end = offset + request.length
    while (offset < end) {
      const page = this.pages[Math.floor(offset / memoryPageBytes)] ?? zeroPage
      const from = offset % memoryPageBytes
      const to = Math.min(memoryPageBytes, from + end - offset)
      if (page instanceof Block) lend(request, page, from, to)
      else request.append(page.subarray(from, to), null)
      offset += to - from
    }
  }

  private write(request: Request): void {
    let { offset } = request
    for (const segment of request.segments) {
      let at = 0
      while (at < segment.length) {
        const from = offset % memoryPageBytes
        const length = Math.min(segment.length - at, memoryPageBytes - from)
        const index = Math.floor(offset / memoryPageBytes)
        const kept = length === memoryPageBytes ? partOf(request, segment, at) : null
        if (kept !== null) this.replace(index, kept)
        else segment.copy(this.pageForWriting(index, length), from, at, at + length)
        at += length
        offset += length
      }
    }
  }

  /** @internal */
  zero(offset: number, length: number, flags: number): void {
    this.changes++
    const end = offset + length
    const keep = (flags & Flag.noHole) !== 0
    while (offset < end) {
      const index = Math.floor(offset / memoryPageBytes)
      const from = offset % memoryPageBytes
      const to = Math.min(memoryPageBytes, from + end - offset)
      const page = this.pages[index]
      if (to - from === memoryPageBytes) this.replace(index, keep ? zeroPage : undefined)
      else if (page !== undefined) this.pageForWriting(index, to - from).fill(0, from, to)
      else if (keep) this.replace(index, zeroPage)
      offset += to - from
    }
  }

  private tellExtents(request: Request): void {
    let { offset } = request
    const end = offset + request.length
    while (offset < end) {
      const index = Math.floor(offset / memoryPageBytes)
      const next = Math.min(end, (index + 1) * memoryPageBytes)
      if (!request.extents.add(next - offset, extentFlags(this.pages[index]))) return
      offset = next
    }
  }

  /** Returns the page to write `length` bytes into, zeroed if it is new and not filled by them. */
  private pageForWriting(index: number, length: number): Buffer {
    const existing = this.pages[index]
    if (existing instanceof Block) {
      if (existing.isHeldOnce) return existing.bytes
    } else if (existing !== undefined && existing !== zeroPage) return existing
    const copied = length < memoryPageBytes && existing instanceof Block
    const zeroed = length < memoryPageBytes && !copied
    const page = zeroed ? Buffer.alloc(memoryPageBytes) : Buffer.allocUnsafeSlow(memoryPageBytes)
    if (copied) existing.bytes.copy(page)
    this.replace(index, page)
    return page
  }

  private replace(index: number, page: Page | undefined): void {
    const existing = this.pages[index]
    // Storing `undefined` where nothing is would add an entry to a sparse table.
    if (page !== existing) this.pages[index] = page
    if (takesMemory(existing)) this.pagesUsed--
    if (takesMemory(page)) this.pagesUsed++
    if (existing instanceof Block) existing.release()
  }
}

/** Zeroes many pages, up to 4 GiB, in several turns of the loop. */
class Zeroing implements LongLoop {
  private readonly memory: MemoryDriver
  private readonly request: Request
  private from = 0

  constructor(memory: MemoryDriver, request: Request) {
    this.memory = memory
    this.request = request
  }

  goOn(): void {
    const { memory, request } = this
    const offset = request.offset + this.from
    // End at a page: one that lies in two pieces would have to be filled.
    const length = Math.min(zeroBytesMax - (offset % memoryPageBytes), request.length - this.from)
    memory.zero(offset, length, request.flags)
    this.from += length
    if (this.from === request.length) request.complete()
    else longLoops(memory.host!.clock).add(this)
  }
}

function takesMemory(page: Page | undefined): boolean {
  return page !== undefined && page !== zeroPage
}

function extentFlags(page: Page | undefined): number {
  if (page === undefined) return extentHole | extentZero
  return page === zeroPage ? extentZero : 0
}

function lend(request: Request, page: Block, from: number, to: number): void {
  const { bytes } = page
  page.retain()
  request.append(to - from === bytes.length ? bytes : bytes.subarray(from, to), page)
}

/** Returns the bytes of a page as a block of their own, null if their lease cannot be split. */
function partOf(request: Request, segment: Buffer, at: number): Block | null {
  for (const lease of request.leases) {
    const part = lease instanceof Block ? lease.part(segment, at, memoryPageBytes) : null
    if (part !== null) return part
  }
  return null
}
