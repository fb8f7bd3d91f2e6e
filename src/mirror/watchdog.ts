import type { Timer } from '../base/clock.ts'
import { isLast, legSlow } from './departure.ts'
import type { Leg } from './leg.ts'
import { legPatience } from './settings.ts'
import type { Volume } from './volume.ts'
import { ticksPerTimeout } from './waits.ts'

/** Looks for legs that do not answer. Sleeps while nothing is under way. */
export class Watchdog {
  private readonly volume: Volume
  private timer: Timer | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Starts to tick, until nothing is under way. */
  wake(): void {
    const { volume } = this
    this.timer ??= volume.clock.timer(volume.settings.legTimeoutMs / ticksPerTimeout, () => {
      this.timer = null
      for (const leg of volume.legs) {
        leg.passTime()
        this.look(leg)
      }
      if (volume.legs.some((leg) => leg.pending > 0)) this.wake()
    })
  }

  private look(leg: Leg): void {
    const { volume } = this
    const waits = leg.oldestTicks
    if (waits <= ticksPerTimeout) return
    // A leg that is being filled holds up clients, and protects no data yet.
    const spares = volume.inSync.includes(leg)
    if (!spares || (leg.isSilent(ticksPerTimeout) && !isLast(volume, leg))) legSlow(volume, leg, 1)
    else if (waits > ticksPerTimeout * legPatience) legSlow(volume, leg, legPatience)
  }

  stop(): void {
    this.timer?.cancel()
    this.timer = null
  }
}
