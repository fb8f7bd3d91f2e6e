import type { RangeHolder, RangeLock } from '../../base/range-lock.ts'
import type { Volume } from '../volume.ts'

/** A range locked for a copy, a comparison or a repair, in the run that it began in. */
export class LockedRange implements RangeHolder {
  readonly rangeFrom: number
  readonly rangeTo: number
  private locks: RangeLock | null = null
  private resolve: (() => void) | null = null

  constructor(from: number, to: number) {
    this.rangeFrom = from
    this.rangeTo = to
  }

  granted(): void {
    this.resolve!()
  }

  /** Resolves when the range is locked or the run has ended; the caller checks which. */
  acquire(volume: Volume): Promise<void> {
    this.locks = volume.locks
    if (this.locks.acquire(this)) return Promise.resolve()
    return new Promise((resolve) => {
      this.resolve = () => {
        volume.onEnd.delete(resolve)
        resolve()
      }
      volume.onEnd.add(resolve)
    })
  }

  /** Unlocks the range, unless the run that locked it has ended. */
  release({ locks }: Volume): void {
    if (this.locks === locks) locks.release(this)
  }
}
