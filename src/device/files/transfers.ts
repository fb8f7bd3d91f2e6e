import fs from 'node:fs'
import { systemError, type StorageError } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import { Ring } from '../../base/ring.ts'
import { KiB } from '../../base/size.ts'
import type { Slab } from '../../base/slab.ts'
import { Operation, type Request } from '../request.ts'
import { Eager } from './eager.ts'
import { cutShort, type Worsen } from './syncs.ts'
import { describeTransfer, Task } from './task.ts'

/**
 * Reads and writes of one file that are handed to Node's thread pool at once; the others wait in
 * line. More than there are threads, so that these find work without being woken for each.
 */
const tasksMax = 64
/** Neighbours waiting in line are carried out together up to this length, and this many pieces. */
const mergedBytesMax = 256 * KiB
const mergedPiecesMax = 256

export interface TransferFile {
  /** For reads, and writes without flags. */
  readonly fd: number
  /** For writes that force unit access. */
  readonly syncedFd: number
  /** What offsets, lengths and addresses must be multiples of; 1 if anything goes. */
  readonly alignment: number
  /** Path in the tree, for errors. */
  readonly device: string
}

/**
 * Carries out reads and writes of a file: small reads at once while the page cache answers, all
 * others by the thread pool. What has to wait for a thread is merged with its neighbours in line.
 */
export class Transfers {
  /** @internal */ readonly file: TransferFile
  /** @internal */ readonly slab: Slab
  private readonly clock: Clock
  private readonly worsen: Worsen
  private readonly eager: Eager | null
  private readonly line = new Ring<Request>()
  private readonly alone = new Ring<Request>()
  private readonly idle: Task[] = []
  private scheduled = false
  /** Reads answered at once, and reads and writes that went to a thread. */
  readonly counts = { eager: 0, tasks: 0, merged: 0 }

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
      const now = this.clock.now()
      if (this.eager.mayTry(now, request.length)) {
        this.readNow(request, this.eager, now)
        return
      }
    }
    this.line.push(request)
    // At the end of the turn, when the neighbours that came with it are in line too.
    if (!this.scheduled) this.clock.defer(this.pump)
    this.scheduled = true
  }

  private readonly pump = (): void => {
    this.scheduled = false
    while (this.line.length + this.alone.length > 0) {
      const task = this.idle.pop()
      if (task === undefined) return
      this.counts.tasks++
      const alone = this.alone.shift()
      if (alone === undefined) this.gather(task)
      else task.add(alone)
      task.start()
    }
  }

  /** @internal The task is free for the next. */
  finished(task: Task): void {
    this.idle.push(task)
    this.pump()
  }

  /** @internal To be carried out again, by itself, because it failed together with neighbours. */
  again(request: Request): void {
    this.alone.push(request)
  }

  /** @internal The error of a read that ended early; the file is not trusted any more. */
  cutShort(end: number): StorageError {
    const error = cutShort(end, this.file.device)
    this.worsen('failed', error)
    return error
  }

  private readNow(request: Request, eager: Eager, began: number): void {
    const { length } = request
    const { fd, device } = this.file
    const block = this.slab.take(length)
    let error: StorageError | null = null
    try {
      let read = 0
      while (read < length) {
        const got = fs.readSync(fd, block.bytes, read, length - read, request.offset + read)
        if (got === 0) throw this.cutShort(request.offset + read)
        read += got
      }
    } catch (cause) {
      error = systemError(cause, describeTransfer(request), device)
    }
    eager.tried(began, this.clock.now(), length)
    this.counts.eager++
    if (error === null) {
      request.append(
        length === block.bytes.length ? block.bytes : block.bytes.subarray(0, length),
        block,
      )
      request.complete()
    } else {
      block.release()
      request.fail(error)
    }
  }

  /** Moves the first request in line, and the neighbours that follow it there, into the task. */
  private gather(task: Task): void {
    const first = this.line.shift()!
    task.add(first)
    let pieces = first.segments.length
    for (let next = this.line.peek(); next !== undefined; next = this.line.peek()) {
      pieces += next.segments.length
      if (
        next.operation !== first.operation ||
        next.flags !== first.flags ||
        next.offset !== task.offset + task.length ||
        task.length + next.length > mergedBytesMax ||
        pieces > mergedPiecesMax
      )
        return
      this.line.shift()
      task.add(next)
      this.counts.merged++
    }
  }
}
