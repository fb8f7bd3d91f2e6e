import { createHash } from 'node:crypto'

/**
 * How well a device does something: not at all (refused), by other means (done by the wrapper,
 * correct but slower), or by itself.
 */
export type Ability = 'none' | 'emulated' | 'native'

/** The properties of a device as a whole. Replaced, never changed in place. */
export interface Facts {
  /** Bytes; a multiple of `blockSize`. */
  readonly size: number
  /** Offsets and lengths are multiples of this power of two; 1 if any will do. */
  readonly blockSize: number
  /** Bytes; a power of two; the unit that clients should prefer. */
  readonly preferredBlockSize: number
  /** Bytes; the longest read or write. Longer ones are split by the wrapper. */
  readonly payloadMax: number
  readonly readOnly: boolean
  readonly flush: Ability
  readonly fua: Ability
  readonly trim: Ability
  readonly writeZeroes: Ability
  /** True if writeZeroes is never slower than writing: FAST_ZERO may be granted. */
  readonly fastZero: boolean
  readonly status: Ability
  readonly rotational: boolean
  /**
   * 32 hex digits that tell this device from any other, also from one re-created in its place: an
   * inode and its birth, a volume's identity, the remote's own answer.
   */
  readonly identity: string
  /**
   * 32 hex digits that change whenever writes that were acknowledged but not flushed may have been
   * lost unnoticed: the kernel's boot id for a buffered file, a number of the process for memory,
   * the remote's answer, a digest of them for a composition. A driver announces a new one
   * (`DriverHost.online`) after it failed what was in flight and before it carries out any request.
   * Flushes succeed again from then on: `Device.losses` says what earlier ones would have covered.
   * A flush that failed is a loss like any other: the wrapper announces it, see `life.ts`.
   */
  readonly bootId: string
}

/** The highest fence numbers of claims on a device or any part of it; 0 for none. */
export interface Claimed {
  /** The highest claim in force. */
  readonly held: number
  /** The highest claim that was given up. */
  readonly givenUp: number
}

/**
 * How a head learns that a newer one has claimed a device. told: at once, and it may not read any
 * more. refused: by its next change, and it may go on reading. none: never.
 */
export type Fencing = 'told' | 'refused' | 'none'

/** The facts as the parent sees them: to it, what the wrapper emulates is native. */
export function seenFromAbove(facts: Facts): Facts {
  return {
    ...facts,
    flush: able(facts.flush),
    fua: able(facts.fua),
    trim: able(facts.trim),
    writeZeroes: able(facts.writeZeroes),
    status: able(facts.status),
  }
}

function able(ability: Ability): Ability {
  return ability === 'none' ? 'none' : 'native'
}

/** The ability of a device made of several, from their abilities as seen from above. */
export function weakest(abilities: readonly Ability[]): Ability {
  return abilities.includes('none') ? 'none' : 'native'
}

/** The fence numbers that a claim of all of several devices must not be below. */
export function claimedOf(all: readonly Claimed[]): Claimed {
  return {
    held: Math.max(0, ...all.map(({ held }) => held)),
    givenUp: Math.max(0, ...all.map(({ givenUp }) => givenUp)),
  }
}

/** The fencing of a device made of several: that of the part that tells a head the least. */
export function fencingOf(all: readonly { fencing?(): Fencing }[]): Fencing {
  const each = all.map((driver) => driver.fencing?.() ?? 'none')
  return each.find((one) => one === 'none') ?? each.find((one) => one === 'refused') ?? 'told'
}

/** The part of a device that says how often it or its parts may have been put back unseen. */
interface Restarting {
  readonly driver: { readonly restarts?: number | null; readonly children: readonly Restarting[] }
}

/** How often a device, or any part of it, may have been put back unseen; null where none can be. */
export function restartsOf({ driver }: Restarting): number | null {
  if (driver.restarts !== undefined) return driver.restarts
  const each = driver.children.map(restartsOf).filter((one) => one !== null)
  return each.length === 0 ? null : each.reduce((sum, one) => sum + one, 0)
}

/** The part of a device that says whether it can be asked for its claims. */
interface Claimable extends Restarting {
  readonly driver: Restarting['driver'] & {
    readonly claimed?: unknown
    readonly children: readonly Claimable[]
  }
}

/** True if a device, or a part of it, can be asked for its claims. */
export function tellsOfClaims({ driver: { claimed, children } }: Claimable): boolean {
  return children.length === 0 ? claimed !== undefined : children.some(tellsOfClaims)
}

/**
 * True if another head may have used the device without a way to find out, as with an NBD server. A
 * file or memory of this machine is locked against others.
 */
export function isUnwatched(device: Claimable): boolean {
  return !tellsOfClaims(device) && restartsOf(device) !== null
}

/** The part of a device that says whether it is empty after every start. */
interface Forgetting {
  readonly driver: { readonly forgets?: boolean; readonly children: readonly Forgetting[] }
}

/** True if the device, or a part of it, is empty after every start. */
export function forgets({ driver }: Forgetting): boolean {
  return driver.forgets === true || driver.children.some(forgets)
}

/** Returns 32 hex digits that stand for the text. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}
