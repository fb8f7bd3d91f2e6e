import { constants } from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import { Mutex } from '../../base/mutex.ts'

/** Milliseconds to wait for a disk in use: a target that was just killed has it for a moment. */
const busyMs = 2000
/** Milliseconds between two attempts. */
const busyIntervalMs = 100

/**
 * Keeps other programs of this machine from mounting, formatting or taking a disk. On a block
 * device O_EXCL without O_CREAT does that, because mount and mkfs ask the kernel in the same way.
 * The guard has a descriptor of its own, so that it can be dropped while the disk stays open.
 */
export class DiskGuard {
  private readonly fd: number
  private readonly path: string
  private readonly device: string
  private handle: FileHandle | null = null
  private readonly turns = new Mutex()
  private closed = false

  private readonly clock: Clock

  /** `fd` is the open disk, `path` its name for people. */
  constructor(fd: number, path: string, device: string, clock: Clock) {
    this.clock = clock
    this.fd = fd
    this.path = path
    this.device = device
  }

  /** Takes the disk, unless the guard has it already. Rejects with CLAIMED when it is in use. */
  take(): Promise<void> {
    return this.turns.run(async () => {
      // The descriptor's number may be another file's by now.
      if (this.closed) throw new StorageError('UNAVAILABLE', 'the disk was closed', this.device)
      this.handle ??= await this.open()
    })
  }

  /** Lets other programs have the disk, until the next `take`. */
  drop(): Promise<void> {
    return this.turns.run(async () => {
      const { handle } = this
      this.handle = null
      await handle?.close()
    })
  }

  /** Drops the guard for good, before the disk is closed. */
  close(): Promise<void> {
    const dropped = this.drop()
    this.closed = true
    return dropped
  }

  private async open(): Promise<FileHandle> {
    const end = this.clock.now() + busyMs
    for (;;)
      try {
        const flags = constants.O_RDONLY | constants.O_EXCL
        return await fs.open(`/proc/self/fd/${this.fd}`, flags)
      } catch (cause) {
        if (!isBusy(cause)) throw cause
        if (this.clock.now() > end) throw diskInUse(this.path, this.device, cause)
        await new Promise<void>((resolve) => this.clock.timer(busyIntervalMs, resolve))
      }
  }
}

/** True for the error of a disk that another program has. */
export function isBusy(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException).code === 'EBUSY'
}

/** The error of a disk that another program has. */
export function diskInUse(path: string, device: string, cause: unknown): StorageError {
  const what = `${path} is in use on this machine: mounted, swap, or part of another disk`
  return new StorageError('CLAIMED', `${what}; "readOnly" serves it beside that`, device, cause)
}
