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
 * Reads and writes of one file that are handed to Node's thread pool at once; the others wait in
 * line. More than there are threads, so that these find work without being woken for each.
 */
const tasksMax = 64
/** Neighbours waiting in line are carried out together up to this length, and this many pieces. */
const mergedBytesMax = 256 * KiB
const mergedPiecesMax = 256
/** Writes that continue the one under way, of this length or longer, wait for it to end. */
const streamPieceBytesMin = 64 * KiB
/** Then they are carried out together up to this length. */
const streamBytesMax = 1024 * KiB

/**
 * Carries out reads and writes of a file: reads at once while the page cache answers, all
 * others by the thread pool, merged with their neighbours in line. What continues a write that is
 * under way waits for it.
 */
export class Transfers implements TaskHost {
  readonly file: TransferFile
  readonly slab: Slab
  private readonly clock: Clock
  private readonly worsen: Worsen
  private readonly eager: Eager | null
  private readonly line = new Ring<Request>()
  private readonly alone = new Ring<Request>()
  private readonly idle: Task[] = []
  /** The last one in line, while its neighbours may still come. */
  private last: Request | null = null
  private deferred = false
  /** The write to the cache that may be continued, while it is under way. */
  private stream: Task | null = null
  /** What waits to continue it, and where that ends. */
  private readonly streaming = new Ring<Request>()
  private streamEnd = 0
  /** Reads carried out on the loop; hand-overs to a thread, and requests that joined another's. */
  readonly counts = { readsOnLoop: 0, handedOver: 0, merged: 0 }

  /** `cached` allows reads on the loop's own thread. */
  constructor(file: TransferFile, slab: Slab, clock: Clock, cached: boolean, worsen: Worsen) {
    this.file = file
    this.slab = slab
    this.clock = clock
    this.worsen = worsen
    this.eager = cached ? new Eager(() => process.resourceUsage().fsRead) : null
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

  /** What follows its neighbour in line waits for more of them until the turn of the loop ends. */
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
   * Whether the request is to wait for the write under way, because it goes on where that ends: the
   * kernel lets one writer into the cache of a file at a time, and threads would fight for it. Only
   * if that one moves more, so that a few requests in flight do not take turns with the threads.
   */
  private continuesStream({ operation, flags, offset, length }: Request): boolean {
    const { stream } = this
    if (stream === null || offset !== this.streamEnd || flags !== 0) return false
    return (
      operation === Operation.write && length >= streamPieceBytesMin && 2 * length <= stream.length
    )
  }

  /** Neither a disk without cache nor a write to stable storage has threads fight for it. */
  private follow(task: Task): void {
    if (this.eager === null || !task.isPlainWrite || this.streaming.length > 0) return
    this.stream = task
    this.streamEnd = task.offset + task.length
  }

  /** The task is free for the next. */
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
   * To be carried out again, by itself, because it failed together with neighbours. A
   * forced one for want of space, which may be that of others: a flush tells, see `Forced`, and
   * later the kernel would not.
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

  /**
   * The error of a read that found nothing at `offset`; the file is not trusted any more.
   */
  cutShort(offset: number): StorageError {
    const error = cutShort(this.endBelow(offset), this.file.device)
    this.worsen('failed', error)
    return error
  }

  /** Where the file ends, which is no further than `offset`; of a disk nobody can tell. */
  private endBelow(offset: number): number {
    try {
      const stats = fs.fstatSync(this.file.fd)
      return stats.isFile() ? Math.min(stats.size, offset) : offset
    } catch {
      return offset
    }
  }

  /** Reads on the loop, unless it turns out to be slow: then a thread reads all of it. */
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

/** Whether the two can be carried out as one. */
function follows(next: Request, last: Request): boolean {
  return (
    next.operation === last.operation &&
    next.flags === last.flags &&
    next.offset === last.offset + last.length
  )
}
