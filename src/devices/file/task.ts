import fs from 'node:fs'
import { assert, StorageError, systemError } from '../../base/errors.ts'
import { isAligned, type Block, type Slab } from '../../base/slab.ts'
import { Flag, Operation, operationNames, type Request } from '../../device/request.ts'
import { syncError } from './syncs.ts'

/** An open file, as reads and writes use it. */
export interface TransferFile {
  /** For reads, and writes without flags. */
  readonly fd: number
  /** For writes that force unit access. */
  readonly syncedFd: number
  /** Offsets, lengths and addresses must be multiples of this; 1 if any will do. */
  readonly alignment: number
  /** Path in the tree, for errors. */
  readonly device: string
  /** Takes flushes. */
  readonly flush: (request: Request) => void
}

/** The owner of the tasks, as they see it: `Transfers`. */
export interface TaskHost {
  readonly file: TransferFile
  readonly slab: Slab
  /** Returns the error of a read that found no bytes at `offset`. */
  cutShort(offset: number): StorageError
  /** Carries the request out once more, by itself. */
  again(request: Request): void
  /** Takes the task back: it is free for other requests. */
  finished(task: Task): void
}

/**
 * Requests for neighbouring ranges, of one operation and with the same flags, carried out as one by
 * a thread of the pool. Reused: it holds the state of the callback, so that no closure is made.
 */
export class Task {
  private readonly transfers: TaskHost
  private readonly requests: Request[] = []
  private fd = 0
  /** Bytes from the start of the file. */
  offset = 0
  length = 0
  /** Bytes that were moved so far: the system may move fewer than asked for. */
  private done = 0
  /** Where a read lands, or the aligned copy of a write; null for a write from its segments. */
  private block: Block | null = null
  /** Bytes that are left to write. */
  private readonly pieces: Buffer[] = []

  constructor(transfers: TaskHost) {
    this.transfers = transfers
  }

  /** True for writes that do not force unit access. */
  get isPlainWrite(): boolean {
    const { operation, flags } = this.requests[0]!
    return operation === Operation.write && flags === 0
  }

  /** Adds a request whose range follows that of the one before. */
  add(request: Request): void {
    if (this.requests.length === 0) {
      this.offset = request.offset
      this.length = 0
    }
    this.requests.push(request)
    this.length += request.length
  }

  /** Carries the requests out. Completes each of them, then gives the task back. */
  start(): void {
    const { transfers, requests } = this
    const { file } = transfers
    const first = requests[0]!
    this.fd = (first.flags & Flag.fua) === 0 ? file.fd : file.syncedFd
    this.done = 0
    if (first.operation === Operation.read) {
      this.block = transfers.slab.take(this.length)
      this.read()
      return
    }
    assert(first.operation === Operation.write, 'a task reads or writes')
    for (const request of requests) for (const piece of request.segments) this.pieces.push(piece)
    if (file.alignment > 1) this.align(file.alignment)
    this.write()
  }

  private read(): void {
    const { bytes } = this.block!
    fs.read(this.fd, bytes, this.done, this.length - this.done, this.offset + this.done, this.moved)
  }

  private write(): void {
    const { fd, pieces } = this
    const offset = this.offset + this.done
    if (pieces.length > 1) fs.writev(fd, pieces, offset, this.moved)
    else fs.write(fd, pieces[0]!, 0, pieces[0]!.length, offset, this.moved)
  }

  /** Copies unaligned pieces to an aligned block: direct access takes no others. */
  private align(alignment: number): void {
    const { pieces } = this
    if (pieces.every((piece) => isAligned(piece, alignment))) return
    this.block = this.transfers.slab.take(this.length)
    let at = 0
    for (const piece of pieces) at += piece.copy(this.block.bytes, at)
    pieces.length = 0
    pieces.push(this.block.bytes.subarray(0, at))
  }

  private readonly moved = (cause: Error | null, bytes: number): void => {
    const { transfers, pieces } = this
    this.done += bytes
    if (cause !== null) this.finish(this.errorOf(cause))
    else if (this.done === this.length) this.finish(null)
    else if (pieces.length === 0) {
      if (bytes === 0) this.finish(transfers.cutShort(this.offset + this.done))
      else this.read()
    } else if (bytes === 0)
      this.finish(new StorageError('IO', 'the file takes no more bytes', transfers.file.device))
    else {
      dropBytes(pieces, bytes)
      this.write()
    }
  }

  private errorOf(cause: Error): StorageError {
    const first = this.requests[0]!
    const { device } = this.transfers.file
    const forced = (first.flags & Flag.fua) !== 0
    return (forced ? syncError : systemError)(cause, describeTransfer(first), device)
  }

  private finish(error: StorageError | null): void {
    const { transfers, requests, block } = this
    const together = requests.length > 1
    this.pieces.length = 0
    this.block = null
    let from = 0
    for (const request of requests) {
      if (error === null) {
        if (request.operation === Operation.read) handOver(request, block!, from)
        from += request.length
        request.complete()
      } else if (together && !mayTellOfOthers(request, error)) transfers.again(request)
      else request.fail(error)
    }
    block?.release()
    requests.length = 0
    transfers.finished(this)
  }
}

/**
 * True if the error of a forced write may come from the flush behind it. The kernel reports such an
 * error once: a second try would succeed and hide the loss. For lack of space see `again`.
 */
function mayTellOfOthers({ flags }: Request, { code }: StorageError): boolean {
  return (flags & Flag.fua) !== 0 && code !== 'NO_SPACE'
}

/** Gives the request its part of what was read, with a hold of its own. */
function handOver(request: Request, block: Block, from: number): void {
  const { bytes } = block
  const whole = request.length === bytes.length
  block.retain()
  request.append(whole ? bytes : bytes.subarray(from, from + request.length), block)
}

/** Drops the first `count` bytes of the pieces. */
function dropBytes(pieces: Buffer[], count: number): void {
  let whole = 0
  while (count >= pieces[whole]!.length) count -= pieces[whole++]!.length
  pieces.splice(0, whole)
  pieces[0] = pieces[0]!.subarray(count)
}

/** Describes a request for an error: `read of 4096 bytes at 8192`. */
export function describeTransfer(request: Request): string {
  return `${operationNames[request.operation]} of ${request.length} bytes at ${request.offset}`
}
