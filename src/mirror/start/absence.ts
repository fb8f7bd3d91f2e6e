import { forgets, tellsOfClaims } from '../../device/facts.ts'
import type { Leg } from '../leg.ts'
import type { Member } from '../record.ts'
import type { LegView } from './decision.ts'

/**
 * Why a leg that is in sync by the record counts as absent: it may have more than is seen of it.
 * Null where the leg itself is here, so that it is known what it has.
 */
export function absenceOf(
  view: LegView | undefined,
  member: Member,
  refusals: ReadonlyMap<Leg, string>,
): string | null {
  if (view === undefined) return 'not configured'
  const { leg, found, reason } = view
  if (refusals.has(leg) || found === null) return refusals.get(leg) ?? reason
  if (!leg.isAnotherThan(member)) return null
  if (found.kind !== 'blank') return 'another device is in its place'
  // What a device kept in memory alone is lost.
  return forgets(leg.device) ? null : 'a blank device is in its place'
}

/**
 * Whether the leg could still tell of another head: such devices do, and this one has not answered
 * that there was none, because it is away or another device is in its place.
 */
export function couldTellYet({ leg, hadAnotherHead }: LegView, member: Member): boolean {
  const toldOfNone = hadAnotherHead === false && !leg.isAnotherThan(member)
  return !toldOfNone && tellsOfClaims(leg.device)
}
