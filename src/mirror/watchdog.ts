import type { Timer } from '../base/clock.ts'
import { isLast, legSlow } from './departure.ts'
import type { Leg } from './leg.ts'
import { legPatience } from './settings.ts'
import type { Volume } from './volume.ts'

/** Ticks in one `legTimeoutMs`: a leg is found silent at most an eighth later. */
const ticks = 8

/** Looks for legs that do not answer. Sleeps while nothing is under way. */
export class Watchdog {
  private readonly volume: Volume
  private timer: Timer | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Milliseconds that a request longest under way on a leg has waited, to a tick. */
  static waitedMs({ settings }: Volume, oldestTicks: number): number {
    return (oldestTicks * settings.legTimeoutMs) / ticks
  }

  wake(): void {
    const { volume } = this
    this.timer ??= volume.clock.timer(volume.settings.legTimeoutMs / ticks, () => {
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
    if (waits <= ticks) return
    // One that is being filled holds up clients, and spares nobody anything yet.
    const spares = volume.inSync.includes(leg)
    if (!spares || (leg.isSilent(ticks) && !isLast(volume, leg))) legSlow(volume, leg, 1)
    else if (waits > ticks * legPatience) legSlow(volume, leg, legPatience)
  }

  stop(): void {
    this.timer?.cancel()
    this.timer = null
  }
}
