import type { Bitmap } from '../base/bitmap.ts'
import type { DirtyMap } from './data/dirty-map.ts'
import { leave } from './departure.ts'
import type { Leg } from './leg.ts'
import { holding, legNamed, mustJoin, mustRun, refuse, takeBack } from './manage.ts'
import { inspect, judge, lifeOf } from './returning.ts'
import { missed } from './rules/writing.ts'
import { claimLeg } from './start/claims.ts'
import type { Volume } from './volume.ts'

/**
 * What the operator cannot have seen on the leg when giving the word: what was being written, and
 * what came since. The command may have waited for others. What was seen may be lost since, if the
 * leg restarted: nobody else need have flushed it.
 */
export class Unseen {
  private readonly life: string
  private readonly map: DirtyMap | null
  private readonly missed: Bitmap | null

  constructor(volume: Volume, name: string) {
    const leg = volume.legs.find((one) => one.name === name)
    this.life = leg === undefined ? '' : lifeOf(leg)
    this.map = leg?.dirty ?? null
    this.missed = this.map?.missedFromNow() ?? null
    if (this.map !== null)
      volume.jobs.forEachWrite((write) => {
        missed(leg!, write)
      })
  }

  /** Where the leg lacks what it does from a later moment on, that is all of it. */
  on({ dirty }: Leg): Bitmap | null {
    return dirty === this.map ? this.missed : (dirty?.bits ?? null)
  }

  /** Before anything is written to it, it is flushed: from then on it cannot lose that. */
  mustBeThere(volume: Volume, leg: Leg): void {
    if (lifeOf(leg) !== this.life)
      throw refuse(
        volume,
        `${leg.name} restarted, or was exchanged, meanwhile: is it still what you saw?`,
      )
  }

  end(): void {
    if (this.missed !== null) this.map!.forgetMissed(this.missed)
  }
}

/** Takes the operator's word that the leg has everything but what was `unseen` then. */
export async function trustLeg(volume: Volume, name: string, unseen: Unseen): Promise<void> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  if (volume.inSync.includes(leg)) throw refuse(volume, `${name} is in sync already`)
  if (!leg.device.usable) throw refuse(volume, `${name} is ${leg.device.state.word}`)
  await holding(volume, leg, () =>
    volume.jobs.quiet(async () => {
      if (volume.writers.includes(leg)) leave(volume, leg, 'missing', 'trusted by the operator')
      // The operator vouches for what is on the leg, not for what may still land on it.
      if (leg.pending > 0) throw refuse(volume, `requests of ${name} are still under way`)
      await takeBack(volume, leg)
      const found = await inspect(volume, leg, 'outdo')
      const verdict = judge(volume, leg, found)
      if (verdict.word === 'impossible')
        throw refuse(volume, `${name} cannot be trusted: ${verdict.cause}`)
      if (verdict.word !== 'partial') {
        await claimLeg(volume, leg, 'outdo')
        leg.superblocks.forget()
      }
      mustRun(volume)
      unseen.mustBeThere(volume, leg)
      await joinTrusted(volume, leg, unseen)
    }),
  )
}

/** The operator vouches for the leg. A word that came to nothing does not count the next time. */
async function joinTrusted(volume: Volume, leg: Leg, unseen: Unseen): Promise<void> {
  const { membership } = volume
  const { dirty, unflushed } = leg
  const member = leg.member!
  const { whole } = member
  const lacking = unseen.on(leg)
  const now = leg.lacksNothing(volume)
  if (lacking !== null) now.merge(lacking)
  delete member.whole
  volume.short.markDirty(leg)
  leg.welcome()
  volume.remember('operator', leg.name, 'trusted: taken as in sync without copying')
  try {
    await mustJoin(volume, leg, { word: 'partial', cause: 'trusted by the operator' })
  } catch (error) {
    if (whole !== undefined) member.whole = whole
    if (!membership.over() && dirty !== null) {
      leg.lacksAgain(dirty, unflushed)
      await membership.written('lacking')
    }
    throw error
  }
}
