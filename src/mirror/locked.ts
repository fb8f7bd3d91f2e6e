import type { RangeHolder } from '../base/range-lock.ts'
import type { Volume } from './volume.ts'

/** A range locked for a copy, a comparison or a repair. */
export class LockedRange implements RangeHolder {
  readonly rangeFrom: number
  readonly rangeTo: number
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
    if (volume.locks.acquire(this)) return Promise.resolve()
    return new Promise((resolve) => {
      this.resolve = () => {
        volume.onEnd.delete(resolve)
        resolve()
      }
      volume.onEnd.add(resolve)
    })
  }
}
