import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import { MiB } from '../../base/size.ts'
import type { Leg } from '../leg.ts'
import type { Filled } from './former.ts'

/**
 * An open of a volume waits for the look until so many bytes were read and so many milliseconds
 * have passed; then the look goes on by itself. A busy machine alone is no reason.
 */
const patienceBytes = 64 * MiB
const patienceMs = 1000

/**
 * Progress of the look through blank legs before a volume is created. What is known to be zero
 * counts as read.
 */
export class Looking {
  /** How far each blank leg that was looked through has data. */
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

  /**
   * Counts `bytes` as looked through, of which `bytesRead` had to be read. Throws SHUTDOWN once the
   * volume is being closed.
   */
  done(bytes: number, bytesRead: number): void {
    this.bytesDone += bytes
    this.bytesRead += bytesRead
    const long = this.bytesRead >= patienceBytes && this.seconds * 1000 > patienceMs
    if (long) this.onLong()
    if (this.stopped) throw new StorageError('SHUTDOWN', 'the volume is being closed')
  }

  /** Resolves once the look takes long. */
  long(): Promise<void> {
    return new Promise((resolve) => (this.onLong = resolve))
  }

  end(): void {
    this.bytesTotal = 0
  }

  /** Ends every look at its next `done`, because the volume is being closed. */
  stop(): void {
    this.stopped = true
  }

  private get seconds(): number {
    return this.clock === null ? 0 : (this.clock.now() - this.startedAt) / 1000
  }

  /** Progress for people; null when nothing is looked through. */
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
