import type { Bitmap } from '../base/bitmap.ts'
import { claimLeg } from './claims.ts'
import { leave } from './departure.ts'
import type { Leg } from './leg.ts'
import { holding, legNamed, mustJoin, mustRun, refuse, takeBack } from './manage.ts'
import { inspect, judge } from './returning.ts'
import { missed } from './rules/writing.ts'
import type { Volume } from './volume.ts'

/** Takes the operator's word that the leg has everything. */
export async function trustLeg(volume: Volume, name: string): Promise<void> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  if (volume.inSync.includes(leg)) throw refuse(volume, `${name} is in sync already`)
  if (!leg.device.usable) throw refuse(volume, `${name} is ${leg.device.state.word}`)
  const since = missedSince(volume, leg)
  await holding(volume, leg, () =>
    volume.jobs.quiet(async () => {
      if (volume.writers.includes(leg)) leave(volume, leg, 'missing', 'trusted by the operator')
      // The operator vouches for what is on the leg, not for what may still land on it.
      if (leg.pending > 0) throw refuse(volume, `requests of ${name} are still under way`)
      await takeBack(volume, leg)
      const found = await inspect(volume, leg, true)
      const verdict = judge(volume, leg, found)
      if (verdict.word === 'impossible')
        throw refuse(volume, `${name} cannot be trusted: ${verdict.cause}`)
      if (verdict.word !== 'partial') {
        await claimLeg(volume, leg, true)
        leg.superblocks.forget()
      }
      mustRun(volume)
      await joinTrusted(volume, leg, since)
    }),
  )
}

/** What the operator cannot have seen on the leg: what is being written, and comes from now on. */
function missedSince(volume: Volume, leg: Leg): Bitmap | null {
  const since = leg.dirty?.missedFromNow() ?? null
  volume.jobs.forEachWrite((write) => {
    missed(leg, write)
  })
  return since
}

/** The operator vouches for the leg. A word that came to nothing does not count the next time. */
async function joinTrusted(volume: Volume, leg: Leg, since: Bitmap | null): Promise<void> {
  const { membership } = volume
  const { dirty, unflushed } = leg
  const member = leg.member!
  const { whole } = member
  const lacking = leg.lacksNothing(volume)
  if (since !== null) lacking.merge(since)
  delete member.whole
  volume.short.markDirty(leg)
  leg.welcome()
  volume.remember('operator', leg.name, 'trusted: taken as in sync without copying')
  try {
    await mustJoin(volume, leg, { word: 'partial', cause: 'trusted by the operator' })
  } catch (error) {
    if (!membership.over() && dirty !== null) leg.lacksAgain(dirty, unflushed)
    if (whole !== undefined) member.whole = whole
    throw error
  }
}
