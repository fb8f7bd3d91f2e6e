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
 * What the operator cannot have seen on a leg when giving the word to trust it: the writes then
 * under way, and those that came since, while the command waited for others. If the leg restarted,
 * it may have lost even what was seen, because that need not have been flushed.
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

  /**
   * The extents that the leg may lack although the operator vouches for it: those missed since
   * then, or all in its map if that is a later one. Null if it lacks none.
   */
  on({ dirty }: Leg): Bitmap | null {
    return dirty === this.map ? this.missed : (dirty?.bits ?? null)
  }

  /**
   * Throws CONFIG if the leg restarted or was exchanged since. To be called before it takes part:
   * it is flushed before anything is written to it, so from then on it cannot lose what was seen.
   */
  mustBeThere(volume: Volume, leg: Leg): void {
    if (lifeOf(leg) !== this.life)
      throw refuse(
        volume,
        `${leg.name} restarted, or was exchanged, meanwhile: is it still what you saw?`,
      )
  }

  /** Stops collecting what is missed. */
  end(): void {
    if (this.missed !== null) this.map!.forgetMissed(this.missed)
  }
}

/**
 * Takes the operator's word that the leg has everything but what was `unseen` then, and resolves
 * when it takes part again. Rejects with CONFIG where it cannot be trusted.
 */
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

/**
 * Has the leg join with the operator's word. If that fails, the word does not count the next time.
 */
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
