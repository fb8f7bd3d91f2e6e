import { isUnwatched } from '../../device/facts.ts'
import { BackOff } from '../back-off.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import type { Found } from '../superblock.ts'
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
   * Whether another head may serve that this one would stop, or double. It has had a leg since that
   * leg was seen first, because it shows another superblock, or one at last, and this head writes
   * none while it waits. Where a leg is away that other head may go on with it, or without it.
   * Where all are there they keep it out from now on, as the operator wants who started this head;
   * but not if they cannot be claimed: then only what comes at once is taken for the last writes of
   * a head that died.
   */
  anotherServes(views: readonly LegView[]): boolean {
    const isAway = views.some(({ found }) => found === null)
    const isSettled = isAway || this.volume.clock.now() >= this.settled
    let isAnother = false
    for (const { leg, found } of views) {
      const now = found === null ? null : shownBy(found)
      if (now === null) continue
      const before = this.shown.get(leg)
      if (before === undefined || !isSettled) this.shown.set(leg, now)
      else isAnother ||= before !== now
    }
    return isAnother && (isAway || views.some(({ leg }) => isUnwatched(leg.device)))
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

/** Tells two states of a leg apart; null where it cannot be said. */
function shownBy(found: Found): string | null {
  if (found.kind !== 'superblock') return found.kind === 'blank' ? '' : null
  const { serial, record } = found.superblock
  return `${record.generation.id} ${serial}`
}
