import type { Timer } from '../base/clock.ts'
import { legSlow } from './departure.ts'
import type { Volume } from './volume.ts'

/** Ticks in one `legTimeoutMs`. */
const ticks = 4

/** Looks for requests that are under way for too long. Sleeps while there are none. */
export class Watchdog {
  private readonly volume: Volume
  private timer: Timer | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  wake(): void {
    const { volume } = this
    this.timer ??= volume.clock.timer(volume.settings.legTimeoutMs / ticks, () => {
      this.timer = null
      for (const leg of volume.legs) {
        leg.tick++
        if (leg.oldestTicks > ticks) legSlow(volume, leg)
      }
      if (volume.legs.some((leg) => leg.pending > 0)) this.wake()
    })
  }

  stop(): void {
    this.timer?.cancel()
    this.timer = null
  }
}
