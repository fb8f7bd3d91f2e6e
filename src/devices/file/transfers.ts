import fs from 'node:fs'
import { systemError, type StorageError } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import { Ring } from '../../base/ring.ts'
import { KiB } from '../../base/size.ts'
import type { Slab } from '../../base/slab.ts'
import { Flag, Operation, Request, type Completer } from '../../device/request.ts'
import { Eager, eagerStepBytes } from './eager.ts'
import { cutShort, type Worsen } from './syncs.ts'
import { describeTransfer, Task, type TaskHost, type TransferFile } from './task.ts'

/**
 * Tasks of one file that Node's thread pool has at a time; other requests wait in line. There are
 * more than threads, so that a thread finds its next task without being woken for it.
 */
const tasksMax = 64
/** Neighbours waiting in line are carried out together up to this length, and this many pieces. */
const mergedBytesMax = 256 * KiB
const mergedPiecesMax = 256
/** Writes of this many bytes or more that continue the one under way wait for it to end. */
const streamPieceBytesMin = 64 * KiB
/** Such writes are carried out together up to this many bytes. */
const streamBytesMax = 1024 * KiB

/**
 * Carries out reads and writes of a file: reads at once while the page cache answers, all others by
 * the thread pool, merged with their neighbours in line. A write that continues the one under way
 * waits for it.
 */
export class Transfers implements TaskHost {
  readonly file: TransferFile
  readonly slab: Slab
  private readonly clock: Clock
  private readonly worsen: Worsen
  /** Null where no reads are done on the loop's own thread. */
  private readonly eager: Eager | null
  private readonly line = new Ring<Request>()
  private readonly alone = new Ring<Request>()
  private readonly idle: Task[] = []
  /** The last request in line, while neighbours of it may still come. */
  private last: Request | null = null
  private deferred = false
  /** The write to the cache under way that others may continue; null if there is none. */
  private stream: Task | null = null
  /** The writes that wait to continue `stream`, and the byte where the last of them ends. */
  private readonly streaming = new Ring<Request>()
  private streamEnd = 0
  /** Reads on the loop, tasks given to a thread, and requests that joined the task of another. */
  readonly counts = { readsOnLoop: 0, handedOver: 0, merged: 0 }

  constructor(file: TransferFile, { slab, clock, access, worsen }: TransferOptions) {
    this.file = file
    this.slab = slab
    this.clock = clock
    this.worsen = worsen
    this.eager = access === 'cached' ? new Eager(() => process.resourceUsage().fsRead) : null
    for (let count = 0; count < tasksMax; count++) this.idle.push(new Task(this))
  }

  submit(request: Request): void {
    if (request.operation === Operation.read && this.eager !== null) {
      const began = this.clock.now()
      if (this.eager.mayTry(began, request.length)) {
        this.readNow(request, this.eager, began)
        return
      }
    }
    this.enqueue(request)
  }

  /**
   * Adds the request to the stream if it continues that, otherwise to the line, where it waits for
   * neighbours until this turn of the event loop ends.
   */
  private enqueue(request: Request): void {
    if (this.continuesStream(request)) {
      this.streaming.push(request)
      this.streamEnd += request.length
      return
    }
    const { last } = this
    if (last === null || !follows(request, last)) this.pump()
    this.line.push(request)
    this.last = request
    if (!this.deferred) this.clock.defer(this.turnEnded)
    this.deferred = true
  }

  private readonly turnEnded = (): void => {
    this.deferred = false
    this.last = null
    this.pump()
  }

  private pump(): void {
    while (this.line.length + this.alone.length > 0) {
      const task = this.idle.pop()
      if (task === undefined) return
      this.counts.handedOver++
      const alone = this.alone.shift()
      if (alone === undefined) this.gather(task, this.line, mergedBytesMax)
      else task.add(alone)
      this.follow(task)
      task.start()
    }
  }

  /**
   * True if the request is to wait for the write under way because it goes on where that ends: the
   * kernel lets one writer into the cache of a file at a time, and threads would fight for it. The
   * write under way has to be at least twice as long, or a few requests in flight would each wait
   * for the one before.
   */
  private continuesStream({ operation, flags, offset, length }: Request): boolean {
    const { stream } = this
    if (stream === null || offset !== this.streamEnd || flags !== 0) return false
    return (
      operation === Operation.write && length >= streamPieceBytesMin && 2 * length <= stream.length
    )
  }

  /** Makes the task the stream, unless threads do not fight for it: direct and forced writes. */
  private follow(task: Task): void {
    if (this.eager === null || !task.isPlainWrite || this.streaming.length > 0) return
    this.stream = task
    this.streamEnd = task.offset + task.length
  }

  /** Starts the task again with the writes that wait to continue it; without any it is idle. */
  finished(task: Task): void {
    const ended = task === this.stream
    if (ended && this.streaming.length > 0) {
      this.counts.handedOver++
      this.gather(task, this.streaming, streamBytesMax)
      task.start()
    } else {
      if (ended) this.stream = null
      this.idle.push(task)
    }
    this.pump()
  }

  /**
   * Carries a request out once more, by itself, because it failed together with its neighbours. A
   * forced one failed for lack of space, perhaps of earlier writes: a flush first tells that, see
   * `Forced`, because the kernel reports it only once.
   */
  again(request: Request): void {
    if ((request.flags & Flag.fua) === 0) {
      this.alone.push(request)
      return
    }
    const flush = Request.take(Operation.flush, 0, 0, 0, this.flushed)
    flush.context = request
    this.file.flush(flush)
  }

  private readonly flushed: Completer = {
    completed: (flush) => {
      const request = flush.context as Request
      const { error } = flush
      flush.release()
      if (error === null) {
        this.alone.push(request)
        this.pump()
      } else request.fail(error)
    },
  }

  /** Reports the file as failed and returns the error of a read that found no bytes at `offset`. */
  cutShort(offset: number): StorageError {
    const error = cutShort(this.endBelow(offset), this.file.device)
    this.worsen('failed', error)
    return error
  }

  /** The byte where the file ends, `offset` at most; `offset` for a disk. */
  private endBelow(offset: number): number {
    try {
      const stats = fs.fstatSync(this.file.fd)
      return stats.isFile() ? Math.min(stats.size, offset) : offset
    } catch {
      return offset
    }
  }

  /** Reads on the loop. If that turns out to be slow, a thread reads all of it again. */
  private readNow(request: Request, eager: Eager, began: number): void {
    const { length, offset } = request
    const block = this.slab.take(length)
    const { bytes } = block
    let error: StorageError | null = null
    let read = 0
    try {
      while (read < length && eager.mayTry(began, length)) {
        const step = Math.min(eagerStepBytes, length - read)
        const got = fs.readSync(this.file.fd, bytes, read, step, offset + read)
        if (got === 0) throw this.cutShort(offset + read)
        read += got
        const now = this.clock.now()
        eager.tried(began, now, got)
        began = now
      }
    } catch (cause) {
      error = systemError(cause, describeTransfer(request), this.file.device)
    }
    if (error === null && read === length) {
      this.counts.readsOnLoop++
      request.append(length === bytes.length ? bytes : bytes.subarray(0, length), block)
      request.complete()
      return
    }
    block.release()
    if (error === null) this.enqueue(request)
    else request.fail(error)
  }

  /** Moves the first request in line, and the neighbours that follow it there, into the task. */
  private gather(task: Task, line: Ring<Request>, bytesMax: number): void {
    const first = line.shift()!
    task.add(first)
    let last = first
    let pieces = first.segments.length
    for (let next = line.peek(); next !== undefined; next = line.peek()) {
      pieces += next.segments.length
      if (!follows(next, last) || pieces > mergedPiecesMax) return
      if (task.length + next.length > bytesMax) return
      line.shift()
      task.add(next)
      last = next
      this.counts.merged++
    }
  }
}

interface TransferOptions {
  readonly slab: Slab
  readonly clock: Clock
  /** Reads are tried on the loop's own thread only where the page cache may answer. */
  readonly access: 'cached' | 'direct'
  readonly worsen: Worsen
}

/** True if the two can be carried out as one. */
function follows(next: Request, last: Request): boolean {
  return (
    next.operation === last.operation &&
    next.flags === last.flags &&
    next.offset === last.offset + last.length
  )
}
