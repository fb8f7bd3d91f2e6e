import { parseDuration } from '../base/duration.ts'
import { isObject } from '../base/guards.ts'
import { childrenOf, type Loose } from './tree.ts'

/** Milliseconds for a device on another machine that an operator did not write down. */
export interface Patience {
  /** How long requests are held while it is away. */
  readonly hold: number
  readonly pingInterval: number
  readonly pingTimeout: number
}

/** A target's restart takes seconds; whoever waits above gives up after a minute or so. */
const alone: Patience = { hold: 30_000, pingInterval: 5000, pingTimeout: 15_000 }

/**
 * Below a mirror the other legs go on: a leg that was reset is given up after a second, one that is
 * silent within ten, and what it misses meanwhile is copied and nothing else.
 */
const belowMirror: Patience = { hold: 1000, pingInterval: 2000, pingTimeout: 5000 }

/** Pings in the silence after which a connection is given up: one may be lost or late. */
const pingsInSilence = 3

/** What is written down counts; what is not follows from the place, and from what is. */
export function patienceOf(device: Loose, isBelowMirror: boolean): Patience {
  const usual = isBelowMirror ? belowMirror : alone
  const hold = durationOf(device['hold']) ?? usual.hold
  const interval = durationOf(device['pingInterval'])
  const silence = durationOf(device['pingTimeout'])
  return {
    hold,
    pingInterval: interval ?? Math.min(usual.pingInterval, (silence ?? Infinity) / pingsInSilence),
    pingTimeout: silence ?? Math.max(usual.pingTimeout, (interval ?? 0) * pingsInSilence),
  }
}

/** Milliseconds that a leg has beyond the longest `hold` below it. */
const margin = 1000

/** What `legTimeout` of a mirror is in force, and because of which remote's `hold`. */
export interface LegTimeout {
  readonly milliseconds: number
  /** Path of the remote below the mirror's own; '' where `legTimeout` itself is in force. */
  readonly because: string
}

/**
 * A `hold` that is longer than `legTimeout` would never be used: it is the operator's word that
 * requests shall wait so long for this remote, so the leg has that time. `find` tells what a name
 * means.
 */
export function legTimeoutOf(mirror: Loose, find: (name: string) => unknown): LegTimeout {
  let milliseconds = durationOf(mirror['legTimeout']) ?? 0
  let because = ''
  const look = (value: unknown, path: string, trail: readonly string[]): void => {
    if (typeof value === 'string') {
      if (!trail.includes(value)) look(find(value), path, [...trail, value])
      return
    }
    if (!isObject(value)) return
    const hold = isRemote(value) ? (durationOf(value['hold']) ?? 0) : 0
    if (hold > 0 && hold + margin > milliseconds) {
      milliseconds = hold + margin
      because = path
    }
    for (const { value: child, label } of childrenOf(value, ''))
      look(child, path === '' ? label : `${path}/${label}`, trail)
  }
  for (const { value, label } of childrenOf(mirror, '')) look(value, label, [])
  return { milliseconds, because }
}

function isRemote({ type }: Loose): boolean {
  return type === 'remote' || type === 'nbd'
}

export function durationOf(value: unknown): number | null {
  return typeof value === 'string' || typeof value === 'number' ? parseDuration(value) : null
}
