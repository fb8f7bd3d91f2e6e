import { systemError } from '../../base/errors.ts'
import type { Claimed, Device } from '../../device/device.ts'
import { claimedOf } from '../../device/facts.ts'
import { within } from '../deadline.ts'
import { backOff } from '../departure.ts'
import type { Leg } from '../leg.ts'
import type { VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'
import { nobodys } from './head-memory.ts'
import { loadOwn } from './own-files.ts'

/**
 * Whether the last claim that the leg shows, held or given up, is another head's. Then this head's
 * own record does not say which legs are in sync now. False of a leg that cannot be claimed.
 * Rejects when the leg does not answer.
 */
export async function hadAnotherHead(volume: Volume, leg: Leg): Promise<boolean> {
  const { held, givenUp } = await claimedBefore(volume, leg)
  return !volume.head.made(held, leg) || !volume.head.made(givenUp, leg)
}

/**
 * What the leg was claimed with last; nothing for a leg that cannot be claimed. Rejects when it
 * does not answer.
 */
export async function claimedBefore(volume: Volume, leg: Leg): Promise<Claimed> {
  return (await within(volume, leg.device.driver.claimed?.())) ?? nobodys
}

/**
 * What to do about a leg that another head gave up after claiming more than this one: `outdo` it,
 * by the operator's word, or `respect` it and leave the leg alone.
 */
export type GivenUp = 'outdo' | 'respect'

/**
 * Claims a leg for the running volume. Resolves to false where `given` keeps it from that. Rejects
 * as `makeClaim` does.
 */
export async function claimLeg(volume: Volume, leg: Leg, given: GivenUp): Promise<boolean> {
  const isClaimed = await claimMore(volume, leg, { given, another: Promise.resolve(false) })
  if (isClaimed) await volume.head.keepClaims(volume)
  return isClaimed
}

/** How to claim; `another`: see `makeClaim`. */
interface Claim {
  readonly given: GivenUp
  readonly another: Promise<boolean>
}

/**
 * Claims a leg, above what another head gave up if needed. Such a head had claimed more, so it is a
 * newer one of this volume or one of another volume, and this head may be cut off from where it
 * would hear of that. So it takes the operator's word; without it the leg is not claimed, and this
 * resolves to false.
 */
export async function claimMore(
  volume: Volume,
  leg: Leg,
  { given, another }: Claim,
): Promise<boolean> {
  const { held, givenUp } = await claimedBefore(volume, leg)
  const { head, membership } = volume
  const mine = head.claimOf(leg)
  if (givenUp > mine && held <= mine) {
    if (given === 'respect') return false
    const claim = await head.nextClaim(volume, { held: 0, givenUp })
    // Saved before the claim: the next head has to know that it must claim more.
    volume.remember('membership', leg.name, 'is claimed above what another head gave up')
    membership.request('members')
    await membership.settled()
    if (membership.over()) throw volume.unavailable()
    head.claimAbove(leg, claim)
  }
  await makeClaim(volume, leg, another)
  return true
}

/**
 * Claims the leg, and remembers whether its answer was heard. `another`: whether another head had
 * claimed it, asked ahead of the claim on the same connection, so that no other claim comes in
 * between. Rejects with FENCED when the leg refuses.
 */
export async function makeClaim(
  volume: Volume,
  leg: Leg,
  another: Promise<boolean>,
): Promise<void> {
  const { head } = volume
  const claim = head.claimOf(leg)
  volume.leaving.delete(leg)
  head.asks(leg)
  try {
    await within(volume, leg.device.driver.claim?.(claim))
  } catch (error) {
    if (systemError(error, 'claiming').code === 'FENCED') head.hears(leg, claim, 'refused')
    throw error
  }
  head.hears(leg, claim, (await another) ? 'taken-from-another' : 'taken')
}

/** Notes that another head has had legs of which this head's record speaks, see `loadOwn`. */
export async function doubt(volume: Volume, record: VolumeRecord | null): Promise<void> {
  volume.head.doubt(record)
  await volume.above.lose(volume)
}

/** What a leg was before it is given up. */
type Was = 'leg' | 'refused'

/**
 * Gives the claim of a leg up that was detached or removed, so that any other head may write to it;
 * not while a write is under way that may land there yet. Until it is given up it is one of
 * `volume.leaving`, and this is called again when it is quiet, or there again, or after a pause.
 * Never rejects.
 *
 * One that was refused as a new leg may be the device of a leg that is there, whose claim it then
 * is. Not so one that was a leg, although two machines of one image show the same identity.
 */
export async function giveUp(volume: Volume, leg: Leg, was: Was = 'leg'): Promise<void> {
  const { device, member, name } = leg
  const { head, legs, leaving } = volume
  leaving.delete(leg)
  const isLeg = legs.includes(leg)
  const isTaken =
    was === 'refused' &&
    legs.some((one) => one.member?.state !== 'detached' && isSame(one.device, device))
  if (isLeg ? member?.state !== 'detached' : isTaken) return
  leaving.add(leg)
  leg.want()
  if (leg.changing) return
  try {
    const { held } = await claimedBefore(volume, leg)
    if (held === head.claimOf(leg) || head.made(held, leg)) {
      // Where this head, or the leg's target, has restarted since, the claim is no session's.
      if (isLeg && held > 0) await within(volume, device.driver.claim?.(held))
      await within(volume, device.driver.claim?.(0))
    }
    leaving.delete(leg)
  } catch (error) {
    // A leg that is there no more can be asked no more, and another's claim is not ours.
    if (!isLeg || systemError(error, '').code === 'FENCED') leaving.delete(leg)
    else if (volume.host !== null) backOff(volume, leg)
    const what = `${volume.path}/${name} stays claimed`
    volume.log.warn({ volume: volume.path, leg: name, err: error }, what)
  }
}

/** Whether it is one device, over one link or over two. */
export function isSame(one: Device, other: Device): boolean {
  return one === other || (one.facts !== null && one.facts.identity === other.facts?.identity)
}

/**
 * Gives the leg up if that is still to be done: meanwhile it may have been, or claimed again, or
 * asked in vain. One that the volume has no more may still be erased, and is left to `letGo`.
 */
export async function giveUpNow(volume: Volume, leg: Leg): Promise<void> {
  const isDue = leg.device.usable && leg.backOff.isOver && volume.legs.includes(leg)
  if (isDue && volume.leaving.has(leg)) await giveUp(volume, leg)
}

/**
 * Gives a leg up that the volume has no more, once nothing is under way on it. Resolves when that
 * is done; never rejects. Not to be waited for within `Volume.control`.
 */
export async function letGo(volume: Volume, leg: Leg, was: Was = 'leg'): Promise<void> {
  volume.leaving.add(leg)
  while (volume.leaving.has(leg)) {
    await leg.drained()
    await volume.control.run(() => giveUp(volume, leg, was))
  }
}

/**
 * Raises the number in this head's claims. Another head has claimed more, and may have died before
 * it could serve, in a generation that no leg has: each time this one is started again, it claims
 * more.
 */
export async function raiseNumber(volume: Volume): Promise<void> {
  const { head } = volume
  head.raiseNumber(volume.random)
  await head.save(volume).catch((error: unknown) => {
    volume.log.warn(
      { err: error, volume: volume.path },
      `the number of the head of ${volume.path} cannot be kept`,
    )
  })
}

/** Told to an operator who starts a head that a newer one has replaced. */
export const whatForceDoes =
  '`--force` takes the legs back: they refuse the newer head from then on, and it stops; what it ' +
  'wrote stays where its legs are there now'

/**
 * Makes this head, which was fenced, the newer one, by the operator's word. Its next claim is far
 * above its last, because the leg may have served in another volume, or in one that had come
 * further; and above what was given up, where that is known. Legs that refused are claimed at once,
 * because they are not reached before they are claimed with more.
 */
export async function outbid(volume: Volume): Promise<void> {
  const { head } = volume
  await head.load(volume)
  // The legs say what the newer head went on with; their claims no longer do once they are ours.
  await doubt(volume, (await loadOwn(volume)).value)
  head.goFarAbove()
  const legs = volume.legs.filter(({ device }) => device.usable)
  const asked = legs.map((leg) => claimedBefore(volume, leg).catch(() => nobodys))
  const { givenUp } = claimedOf(await Promise.all(asked))
  const claim = await head.nextClaim(volume, { held: 0, givenUp })
  const refused = volume.legs.filter(({ device: { driver, state } }) => {
    return state.word === 'failed' && driver.claim !== undefined
  })
  for (const { device } of refused) device.driver.claim!(claim).catch(() => undefined)
  // A leg that is not there when the start is decided is left out, whatever it has from the newer
  // head.
  await Promise.all(refused.map((leg) => isDecided(volume, leg)))
}

/** Resolves when the leg is reached, or turns this head away again; or when its time is over. */
async function isDecided(volume: Volume, { device }: Leg): Promise<void> {
  let look: () => void = () => undefined
  const decided = new Promise<void>((resolve) => {
    look = () => {
      if (device.usable || device.state.word === 'failed') resolve()
    }
  })
  device.watch(look)
  look()
  await within(volume, decided).catch(() => undefined)
  device.unwatch(look)
}
