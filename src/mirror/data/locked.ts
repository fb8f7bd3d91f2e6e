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

  /** Resolves when the range is locked, or when the run ended: whoever waits must look. */
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

  /** Those of a run that has ended are nobody's any more. */
  release({ locks }: Volume): void {
    if (this.locks === locks) locks.release(this)
  }
}
