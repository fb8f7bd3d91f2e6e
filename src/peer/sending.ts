import type { Clock } from '../base/clock.ts'
import type { Outbox } from '../net/outbox.ts'

/** Decides when a client's requests leave its outbox: together, if others can be expected. */
export class Sending {
  private readonly outbox: Outbox
  private readonly clock: Clock
  /** True when the outbox is going to be flushed as soon as what runs now is done. */
  private soon = false

  constructor(outbox: Outbox, clock: Clock) {
    this.outbox = outbox
    this.clock = clock
  }

  /**
   * Has a request sent that was just written. `alone`, with nothing else under way, it waits for
   * those that the same event brings about; `among` others it waits for the end of the turn.
   */
  schedule(company: 'alone' | 'among'): void {
    if (this.soon) return
    if (company === 'among') {
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
