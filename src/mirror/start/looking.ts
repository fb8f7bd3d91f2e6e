import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import { MiB } from '../../base/size.ts'
import type { Leg } from '../leg.ts'
import type { Filled } from './former.ts'

/**
 * Whoever opens a volume waits for the look until so much was read, in bytes, and so much time has
 * passed, in milliseconds; then it goes on by itself. A busy machine alone is no reason.
 */
const patienceBytes = 64 * MiB
const patienceMs = 1000

/**
 * Progress of the look through blank legs before a volume is created. What is known to be zero
 * counts as read.
 */
export class Looking {
  /** How far legs have data, of the blank ones that were looked through. */
  readonly filled = new Map<Leg, Filled>()
  private onLong: () => void = () => undefined
  private clock: Clock | null = null
  private stopped = false
  private startedAt = 0
  private bytesTotal = 0
  private bytesDone = 0
  private bytesRead = 0

  /** Begins anew, with so many bytes to look through. */
  begin(bytes: number, clock: Clock): void {
    this.clock = clock
    this.startedAt = clock.now()
    this.bytesTotal = bytes
    this.bytesDone = 0
    this.bytesRead = 0
  }

  /** So many bytes were looked through, of which so many had to be read. Throws when it is over. */
  done(bytes: number, bytesRead: number): void {
    this.bytesDone += bytes
    this.bytesRead += bytesRead
    const long = this.bytesRead >= patienceBytes && this.seconds * 1000 > patienceMs
    if (long) this.onLong()
    if (this.stopped) throw new StorageError('SHUTDOWN', 'the volume is being closed')
  }

  /** Resolves once it takes long. */
  long(): Promise<void> {
    return new Promise((resolve) => (this.onLong = resolve))
  }

  end(): void {
    this.bytesTotal = 0
  }

  /** The volume is closed: whatever looks gives up. */
  stop(): void {
    this.stopped = true
  }

  private get seconds(): number {
    return this.clock === null ? 0 : (this.clock.now() - this.startedAt) / 1000
  }

  /** Null when nothing is looked through. */
  describe(): Record<string, unknown> | null {
    if (this.bytesTotal === 0) return null
    const bytesLeft = Math.max(0, this.bytesTotal - this.bytesDone)
    const bytesPerSecond = Math.round(this.bytesDone / Math.max(0.001, this.seconds))
    return {
      bytesDone: this.bytesDone,
      bytesRead: this.bytesRead,
      bytesLeft,
      percent: Math.floor((1000 * this.bytesDone) / this.bytesTotal) / 10,
      bytesPerSecond,
      secondsLeft: bytesPerSecond === 0 ? null : Math.ceil(bytesLeft / bytesPerSecond),
    }
  }
}
