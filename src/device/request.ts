import { empty } from '../base/empty.ts'
import { assert, type StorageError } from '../base/errors.ts'
import type { Lease } from '../base/slab.ts'
import { Extents } from './extents.ts'
import type { Facts } from './facts.ts'

/** The operation of a request: numbers, so that a switch over them is a jump. */
export const Operation = {
  /** Segments are empty on the way down; the device that has the bytes hands them over. */
  read: 0,
  /** Segments hold exactly `length` bytes. */
  write: 1,
  /** Brings everything acknowledged before to stable storage. Offset and length are 0. */
  flush: 2,
  /** Drops the content of the range; reads return anything, mostly zeroes. */
  trim: 3,
  /** The range reads as zeroes afterwards. */
  writeZeroes: 4,
  /** Asks which parts of the range are allocated; the answer is in `extents`. */
  status: 5,
} as const
export type Operation = (typeof Operation)[keyof typeof Operation]

export const operationNames = ['read', 'write', 'flush', 'trim', 'writeZeroes', 'status'] as const

/** True if the operation changes the content of a device. */
export function isChange(operation: Operation): boolean {
  return (
    operation === Operation.write ||
    operation === Operation.trim ||
    operation === Operation.writeZeroes
  )
}

export const Flag = {
  /** Complete only when this request's own data is on stable storage (write, writeZeroes, trim). */
  fua: 1,
  /** writeZeroes: fail with UNSUPPORTED at once rather than be as slow as writing. */
  fastZero: 2,
  /** writeZeroes: keep the range allocated. */
  noHole: 4,
} as const

/** The submitter or a forwarder of a request, which is told when it completes. */
export interface Completer {
  /** `request` is complete: see `error`. May be called before `submit` returned. */
  completed(request: Request): void
}

/** The device that a split request was made for: its boot id changes when it may lose data. */
export interface PartsTarget {
  readonly facts: Facts | null
}

/**
 * One operation on its way down the tree and its answer on the way up. Requests are pooled: the
 * taker releases it once, after it completed and after the last use of its segments.
 *
 * Levels that want to see the completion stack themselves with `push`; each `complete` unstacks
 * one, restoring the offset as it was there. So a level may change `offset` before it forwards.
 *
 * Segments are lent. A write's bytes do not change until every holder of `leases` let go; a level
 * that needs them after it completed the request retains the leases. A read's segments stay valid
 * until `release`; a socket, which needs them longer, retains the leases. A level above may change
 * them in place where the request is the only holder of a block that is not `final`.
 */
export class Request {
  operation: Operation = Operation.read
  /** Bytes from the start of the device that has the request now. */
  offset = 0
  /** Bytes; 0 for flush. */
  length = 0
  /** A sum of `Flag`. */
  flags = 0
  readonly segments: Buffer[] = []
  readonly leases: Lease[] = []
  /** Null after success. A read that failed has no segments. */
  error: StorageError | null = null
  readonly extents = new Extents()

  /** For the submitter alone, to know the request again. */
  context: unknown = null
  tag = 0
  tagHigh = 0

  /** @internal For `split.ts`: the requests this one was split into, in order of their offset. */
  readonly parts: Request[] = []
  /** @internal Parts that have not completed, and one more until `endSplit`. */
  partsPending = 0
  /** @internal The device that was split for, and its boot id when the first part completed. */
  partsTarget: PartsTarget | null = null
  /** @internal */
  partsBootId = ''

  private readonly owners: Completer[] = []
  private readonly offsets: number[] = []
  private depth = 0
  private taken = false

  /**
   * Takes a request from the pool; `owner` is told when it completes. Five arguments by position,
   * because an options object per request would be garbage on the hot path.
   */
  static take(
    operation: Operation,
    offset: number,
    length: number,
    flags: number,
    owner: Completer,
  ): Request {
    const request = pool.pop() ?? new Request()
    request.operation = operation
    request.offset = offset
    request.length = length
    request.flags = flags
    request.taken = true
    request.push(owner)
    return request
  }

  /** Stacks `owner`: it is told of the completion before those stacked earlier. */
  push(owner: Completer): void {
    this.owners[this.depth] = owner
    this.offsets[this.depth] = this.offset
    this.depth++
  }

  /** Reports success to the level above. */
  complete(): void {
    assert(this.depth > 0, 'a request completes once')
    const depth = --this.depth
    this.offset = this.offsets[depth]!
    this.owners[depth]!.completed(this)
  }

  /** Reports failure to the level above. Drops the segments. */
  fail(error: StorageError): void {
    this.error = error
    this.dropSegments()
    this.complete()
  }

  /** Adds bytes at the end. `lease`, if any, must already have a hold for this request. */
  append(segment: Buffer, lease: Lease | null): void {
    this.segments.push(segment)
    if (lease !== null) this.leases.push(lease)
  }

  /** Lends all segments of `other`, whose leases this request then holds as well. */
  share(other: Request): void {
    for (const segment of other.segments) this.segments.push(segment)
    this.holdLeases(other)
  }

  /** Lends the bytes `from` to `from + length` of `other`'s segments, and holds its leases. */
  shareRange(other: Request, from: number, length: number): void {
    for (const segment of other.segments) {
      if (length === 0) break
      if (from >= segment.length) {
        from -= segment.length
        continue
      }
      const part = segment.subarray(from, Math.min(from + length, segment.length))
      this.segments.push(part)
      length -= part.length
      from = 0
    }
    assert(length === 0, 'the range lies within the segments')
    this.holdLeases(other)
  }

  private holdLeases(other: Request): void {
    for (const lease of other.leases) {
      lease.retain()
      this.leases.push(lease)
    }
  }

  /** Takes over the segments and holds of `other`, which has none afterwards. */
  adopt(other: Request): void {
    for (const segment of other.segments) this.segments.push(segment)
    for (const lease of other.leases) this.leases.push(lease)
    empty(other.segments)
    empty(other.leases)
  }

  /** Empties the segments and releases their leases. */
  dropSegments(): void {
    empty(this.segments)
    while (this.leases.length > 0) this.leases.pop()!.release()
  }

  /** Bytes in the segments. */
  get payloadBytes(): number {
    let bytes = 0
    for (const segment of this.segments) bytes += segment.length
    return bytes
  }

  /** Copies the segments into `target`; for small reads such as metadata, not for the data path. */
  copyTo(target: Buffer): void {
    let at = 0
    for (const segment of this.segments) at += segment.copy(target, at)
  }

  /** Gives back a request that was taken but never submitted; calls no owner. */
  abandon(): void {
    this.depth = 0
    this.release()
  }

  /** Gives the request back to the pool and releases its leases. */
  release(): void {
    assert(this.taken && this.depth === 0, 'a request is released once, after it completed')
    this.taken = false
    this.dropSegments()
    this.error = null
    this.context = null
    if (this.extents.lengths.length > 0) this.extents.clear()
    if (pool.length < pooledMax) pool.push(this)
  }
}

const pool: Request[] = []
/** Requests kept for reuse; more than that in flight at once are left to the garbage collector. */
const pooledMax = 16_384
