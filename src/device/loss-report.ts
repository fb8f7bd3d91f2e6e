import { StorageError } from '../base/errors.ts'
import type { Device } from './device.ts'
import { mayHaveLost } from './life.ts'
import type { Request } from './request.ts'

/** What one client knows of a device's losses, from when it came. */
export class LossReport {
  private readonly device: Device
  private told: number

  constructor(device: Device) {
    this.device = device
    this.told = device.losses
  }

  /**
   * Fails a complete flush that succeeded only for what is left, once after something was lost.
   * Whichever client flushes first, each of them is told.
   */
  tell(flush: Request): void {
    const { losses, path } = this.device
    if (flush.error === null && losses !== this.told)
      flush.error = new StorageError('STALE', 'acknowledged writes before it were lost', path)
    const { error } = flush
    if (error !== null && (error.code === 'STALE' || mayHaveLost(error))) this.told = losses
  }
}
