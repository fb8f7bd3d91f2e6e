import { BackOff } from '../back-off.ts'
import type { Volume } from '../volume.ts'

/** When a start is tried again that came to nothing. */
export class Tries {
  private readonly volume: Volume
  private readonly pause = new BackOff()
  private newsAt = 0

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Notes that a start is tried for another reason than that time has passed. */
  hasNews(): void {
    this.newsAt = this.volume.clock.now()
  }

  /** Whether there was news so lately that what a head had under way may have landed since. */
  get newsIsFresh(): boolean {
    const { clock, settings } = this.volume
    return clock.now() - this.newsAt < settings.legTimeoutMs
  }

  /** Has a start tried after `legRetryMs`; or `longer` each time, if no requests are held. */
  later(pause: 'short' | 'longer' = 'short'): void {
    const { clock, hooks, settings, word } = this.volume
    const { legRetryMs: least, legRetryMsMax } = settings
    if (pause === 'short' || word !== 'waiting')
      this.pause.begin(clock, least, least, () => hooks.onWaiting('news'))
    else if (this.pause.isOver)
      this.pause.begin(clock, least, legRetryMsMax, () => hooks.onWaiting('time'))
  }
}
