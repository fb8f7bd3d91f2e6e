import { StorageError } from '../base/errors.ts'
import type { Device } from './device.ts'
import { mayHaveLost } from './life.ts'
import type { Request } from './request.ts'

/** Tells one client of a device's losses since the client came. */
export class LossReport {
  private readonly device: Device
  private told: number

  constructor(device: Device) {
    this.device = device
    this.told = device.losses
  }

  /**
   * Turns the success of a complete flush into STALE, once for each loss: it flushed only what is
   * left. Every client is told in its own next flush.
   */
  tell(flush: Request): void {
    const { losses, path } = this.device
    if (flush.error === null && losses !== this.told)
      flush.error = new StorageError('STALE', 'acknowledged writes before it were lost', path)
    const { error } = flush
    if (error !== null && (error.code === 'STALE' || mayHaveLost(error))) this.told = losses
  }
}
