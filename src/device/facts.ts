import { createHash } from 'node:crypto'
import type { Ability, Claimed, Device, Driver, Facts, Fencing } from './device.ts'

/** What a device does by other means its parent need not do again: to the parent it is native. */
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

/** What all of several abilities, each seen from above, come to. */
export function weakest(abilities: readonly Ability[]): Ability {
  return abilities.includes('none') ? 'none' : 'native'
}

/** What somebody who claims all of several devices must not be below. */
export function claimedOf(all: readonly Claimed[]): Claimed {
  return {
    held: Math.max(0, ...all.map(({ held }) => held)),
    givenUp: Math.max(0, ...all.map(({ givenUp }) => givenUp)),
  }
}

/** The same of a device that is made of several: one that cannot tell is read from unnoticed. */
export function fencingOf(all: readonly Driver[]): Fencing {
  const each = all.map((driver) => driver.fencing?.() ?? 'none')
  return each.find((one) => one === 'none') ?? each.find((one) => one === 'refused') ?? 'told'
}

/** How often a device, or any part of it, may have been put back unseen; null where none can be. */
export function restartsOf({ driver }: Device): number | null {
  if (driver.restarts !== undefined) return driver.restarts
  const each = driver.children.map(restartsOf).filter((one) => one !== null)
  return each.length === 0 ? null : each.reduce((sum, one) => sum + one, 0)
}

/** 32 hex digits that stand for the text. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}
