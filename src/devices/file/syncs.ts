import fs from 'node:fs'
import { StorageError, systemError } from '../../base/errors.ts'
import { mayHaveLost } from '../../device/life.ts'
import type { Request } from '../../device/request.ts'

/**
 * Flushes a file. Flushes that arrive while one is under way wait for the next, which answers them
 * all: the one under way may have started before what they have to cover was written.
 *
 * A failed fdatasync is never tried again: the kernel has dropped the data and would report
 * success. Every later flush fails with the same error until the file is opened anew.
 */
export class Syncs {
  private readonly fd: number
  private size: number
  private readonly device: string
  private running: Request[] = []
  private waiting: Request[] = []
  /** Why nothing can be flushed any more. */
  lost: StorageError | null = null
  private readonly worsen: Worsen
  private readonly grew: (size: number) => void

  /** `size` in bytes, 0 for a disk: a file found shorter has lost data too. */
  constructor(
    fd: number,
    size: number,
    device: string,
    worsen: Worsen,
    grew: (size: number) => void,
  ) {
    this.fd = fd
    this.size = size
    this.device = device
    this.worsen = worsen
    this.grew = grew
  }

  /** The file is known to have so many bytes: fewer are a loss from now on. */
  noticed(size: number): void {
    if (this.size > 0) this.size = Math.max(this.size, size)
  }

  submit(request: Request): void {
    this.waiting.push(request)
    this.start()
  }

  private start(): void {
    if (this.running.length > 0 || this.waiting.length === 0) return
    const { running } = this
    this.running = this.waiting
    this.waiting = running
    if (this.lost === null) fs.fstat(this.fd, this.examined)
    else this.finish()
  }

  private readonly examined = (cause: NodeJS.ErrnoException | null, stats: fs.Stats): void => {
    if (cause !== null) {
      this.done(cause)
      return
    }
    if (stats.size < this.size) {
      this.lost = cutShort(stats.size, this.device)
      this.worsen('failed', this.lost)
      this.finish()
      return
    }
    if (stats.size > this.size && this.size > 0) {
      this.size = stats.size
      this.grew(stats.size)
    }
    fs.fdatasync(this.fd, this.done)
  }

  private readonly done = (cause: Error | null): void => {
    if (cause !== null) {
      this.lost = syncError(cause, 'flushing, so written data is lost', this.device)
      this.worsen('degraded', this.lost)
    }
    this.finish()
  }

  private finish(): void {
    const { running } = this
    this.running = []
    for (const request of running)
      if (this.lost === null) request.complete()
      else request.fail(this.lost)
    this.start()
  }
}

/**
 * Told of damage that lasts. A file that was cut short has failed: what it lost would read as
 * zeroes once it is written beyond.
 */
export type Worsen = (word: 'degraded' | 'failed', error: StorageError) => void

/**
 * The error of a flush, or of a forced write with the flush behind it. What the system could not
 * write may be lost whatever it calls that: a time-out of NFS, want of memory.
 */
export function syncError(cause: unknown, doing: string, device: string): StorageError {
  const error = systemError(cause, doing, device)
  return mayHaveLost(error) ? error : new StorageError('IO', error.message, device, cause)
}

/** The error of a file that somebody cut short underneath. */
export function cutShort(size: number, device: string): StorageError {
  return new StorageError('IO', `the file was cut short: it ends at byte ${size}`, device)
}
