import { BackOff } from '../back-off.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import type { LegView } from './decision.ts'

/** The tries to start a volume that waits: when the next one is, and what the legs have shown. */
export class Tries {
  private readonly volume: Volume
  private readonly pause = new BackOff()
  /** What each leg showed when it was seen first, or last in the first while. */
  private readonly shown = new Map<Leg, string>()
  /** Monotonic, milliseconds: until then legs may change by what a head wrote that died. */
  private settled = 0

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** An operator asked for a start, or this head writes to the legs itself: they count anew. */
  beginAnew(): void {
    const { clock, settings } = this.volume
    this.shown.clear()
    this.settled = clock.now() + settings.legTimeoutMs
  }

  /**
   * Whether a leg shows another superblock than it did before: then another head has had it since,
   * because this one writes none while it waits. What comes soon after this head was asked to start
   * may be the last writes of a head that died, but not where a leg is away, with which that head
   * may go on, or without it.
   */
  anotherWrote(views: readonly LegView[]): boolean {
    const isAway = views.some(({ found }) => found === null)
    const isSettled = isAway || this.volume.clock.now() >= this.settled
    let isAnother = false
    for (const { leg, found } of views) {
      if (found?.kind !== 'superblock') continue
      const { serial, record } = found.superblock
      const now = `${record.generation.id} ${serial}`
      const before = this.shown.get(leg)
      if (before === undefined || !isSettled) this.shown.set(leg, now)
      else isAnother ||= before !== now
    }
    return isAnother
  }

  /** Has a start tried after `legRetryMs`; or `longer` each time, if no requests are held. */
  later(pause: 'short' | 'longer' = 'short'): void {
    const { clock, hooks, settings, word } = this.volume
    const { legRetryMs: least, legRetryMsMax } = settings
    const isLonger = pause === 'longer' && word === 'waiting'
    if (isLonger && !this.pause.isOver) return
    this.pause.begin(clock, least, isLonger ? legRetryMsMax : least, () => hooks.onWaiting())
  }
}
