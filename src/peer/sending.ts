import type { Clock } from '../base/clock.ts'
import type { Outbox } from '../net/outbox.ts'

/** When a client's requests leave its outbox: together, but none waits for what will not come. */
export class Sending {
  private readonly outbox: Outbox
  private readonly clock: Clock
  /** Whether the outbox is flushed as soon as what runs now is done. */
  private soon = false

  constructor(outbox: Outbox, clock: Clock) {
    this.outbox = outbox
    this.clock = clock
  }

  /**
   * Has a request sent that was just written. One that is `alone`, with nothing else under way,
   * waits for those that the same event brings about; others for the end of the turn.
   */
  schedule(alone: boolean): void {
    if (this.soon) return
    if (!alone) {
      this.outbox.schedule()
      return
    }
    this.soon = true
    this.clock.soon(this.flush)
  }

  private readonly flush = (): void => {
    this.soon = false
    this.outbox.flush()
  }
}
