import { systemError } from '../../base/errors.ts'
import type { Claimed } from '../../device/device.ts'
import { claimedOf } from '../../device/facts.ts'
import { within } from '../deadline.ts'
import type { Leg } from '../leg.ts'
import type { VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'
import { nobodys } from './head-memory.ts'
import { loadOwn } from './own-files.ts'

/**
 * Whether another head has claimed the leg after this one did, or knows nothing of this one: held
 * or given up since. Then this head's own record does not say who is in sync now. False of legs
 * that cannot be claimed. Rejects when nobody answers.
 */
export async function hadAnotherHead(volume: Volume, leg: Leg): Promise<boolean> {
  const { held, givenUp } = await claimedBefore(volume, leg)
  return !volume.head.made(held, leg) || !volume.head.made(givenUp, leg)
}

export async function claimedBefore(volume: Volume, leg: Leg): Promise<Claimed> {
  return (await within(volume, leg.device.driver.claimed?.())) ?? nobodys
}

/** Claims a leg for the running volume: false where that takes the operator's word, `outdo`. */
export async function claimLeg(volume: Volume, leg: Leg, outdo: boolean): Promise<boolean> {
  const isClaimed = await claimMore(volume, leg, { outdo, another: Promise.resolve(false) })
  if (isClaimed) await volume.head.keepClaims(volume)
  return isClaimed
}

/** `another`: see `makeClaim`. */
interface Claim {
  readonly outdo: boolean
  readonly another: Promise<boolean>
}

/**
 * Where another head gave the leg up that had claimed more, that is a newer one of this volume or
 * one of another volume, and this one may be cut off from where it would hear of it. So that takes
 * the operator's word; without it the leg is not claimed, and the answer is false.
 */
export async function claimMore(
  volume: Volume,
  leg: Leg,
  { outdo, another }: Claim,
): Promise<boolean> {
  const { held, givenUp } = await claimedBefore(volume, leg)
  const { head, membership } = volume
  const mine = head.claimOf(leg)
  if (givenUp > mine && held <= mine) {
    if (!outdo) return false
    const claim = await head.nextClaim(volume, { held: 0, givenUp })
    // Before it is claimed: the next head has to know that it must claim more.
    volume.remember('membership', leg.name, 'is claimed above what another head gave up')
    membership.request(true)
    await membership.settled()
    if (membership.over()) throw volume.unavailable()
    head.claimAbove(leg, claim)
  }
  await makeClaim(volume, leg, another)
  return true
}

/**
 * Claims the leg, and remembers whether its answer was heard. `another`: whether another head had
 * claimed it, asked ahead of the claim on the same way, so that nobody comes in between.
 */
export async function makeClaim(
  volume: Volume,
  leg: Leg,
  another: Promise<boolean>,
): Promise<void> {
  const { head } = volume
  const claim = head.claimOf(leg)
  head.asks(leg)
  try {
    await within(volume, leg.device.driver.claim?.(claim))
  } catch (error) {
    if (systemError(error, 'claiming').code === 'FENCED') head.hears(leg, claim, 'refused')
    throw error
  }
  head.hears(leg, claim, (await another) ? 'taken-from-another' : 'taken')
}

/** Another head has had legs of which this head's record speaks, see `loadOwn`. */
export async function doubt(volume: Volume, record: VolumeRecord | null): Promise<void> {
  volume.head.doubt(record)
  await volume.above.lose(volume)
}

/** Whoever has the leg now may write to it. One that is away stays claimed. */
export async function giveUp(volume: Volume, leg: Leg): Promise<void> {
  try {
    await within(volume, leg.device.driver.claim?.(0))
  } catch (error) {
    volume.log.warn(
      { volume: volume.path, leg: leg.name, err: error },
      `${volume.path}/${leg.name} stays claimed`,
    )
  }
}

/**
 * Another head has claimed more, and may have died before it could serve, in a generation that no
 * leg has: each time somebody starts this one again, it claims more.
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

/** To an operator who starts a head that a newer one has replaced. */
export const whatForceDoes =
  '`--force` takes the legs back: they refuse the newer head from then on, and it stops; what it ' +
  'wrote stays where its legs are there now'

/**
 * The operator makes this head, which was fenced, the newer one: its next claim is far above its
 * last, because the leg may have served in another volume, or one that had come further; and above
 * what was given up, where that is known. Made at once, because a leg that was refused is not
 * reached before it is claimed with more.
 */
export async function outbid(volume: Volume): Promise<void> {
  const { head } = volume
  await head.load(volume)
  // What the newer head went on with, the legs say; their claims will not, once they are ours.
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
  // Who is not there when it is decided would be left out, whatever it has from the newer head.
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
