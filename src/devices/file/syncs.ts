import fs from 'node:fs'
import { StorageError, systemError } from '../../base/errors.ts'
import { mayHaveLost } from '../../device/life.ts'
import type { Request } from '../../device/request.ts'

/**
 * Flushes a file. Flushes that arrive while one is under way wait for the next, which answers all
 * of them: the one under way may have started before the writes that they have to cover.
 *
 * A failed fdatasync is never tried again: the kernel has dropped the data and would report
 * success. Every later flush fails with the same error until the file is opened again.
 */
export class Syncs {
  private readonly fd: number
  private size: number
  private readonly device: string
  private running: Request[] = []
  private waiting: Request[] = []
  /** The error of all flushes from now on; null while none has failed. */
  lost: StorageError | null = null
  private readonly tell: SyncsEvents

  constructor({ fd, size, device }: SyncedFile, events: SyncsEvents) {
    this.fd = fd
    this.size = size
    this.device = device
    this.tell = events
  }

  /** Notes that the file has so many bytes: if it has fewer later, data was lost. */
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
      this.tell.worsen('failed', this.lost)
      this.finish()
      return
    }
    if (stats.size > this.size && this.size > 0) {
      this.size = stats.size
      this.tell.grew(stats.size)
    }
    fs.fdatasync(this.fd, this.done)
  }

  private readonly done = (cause: Error | null): void => {
    if (cause !== null) {
      this.lost = syncError(cause, 'flushing, so written data is lost', this.device)
      this.tell.worsen('degraded', this.lost)
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

/** The file that is flushed. */
interface SyncedFile {
  readonly fd: number
  /** Bytes, 0 for a disk: a file that has fewer at a flush has lost data. */
  readonly size: number
  /** Path in the tree, for errors. */
  readonly device: string
}

interface SyncsEvents {
  readonly worsen: Worsen
  /** Called with the bytes of a file that has grown. */
  readonly grew: (size: number) => void
}

/**
 * Called for damage that lasts. A file that was cut short has failed: the lost part would read as
 * zeroes as soon as something is written behind it.
 */
export type Worsen = (word: 'degraded' | 'failed', error: StorageError) => void

/**
 * Translates the error of a flush, or of a forced write with the flush behind it: one of those that
 * count as a loss, whatever the system calls it (a time-out of NFS, lack of memory).
 */
export function syncError(cause: unknown, doing: string, device: string): StorageError {
  const error = systemError(cause, doing, device)
  return mayHaveLost(error) ? error : new StorageError('IO', error.message, device, cause)
}

/** The error of a file that another program has cut short. */
export function cutShort(size: number, device: string): StorageError {
  return new StorageError('IO', `the file was cut short: it ends at byte ${size}`, device)
}
