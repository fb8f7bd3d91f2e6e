import { isObject } from '../base/guards.ts'
import { durationOf } from './quantities.ts'
import { childrenOf, type Loose } from './tree.ts'

/** Times for a device on another machine, in milliseconds. */
export interface Patience {
  /** How long requests are held while the device is away. */
  readonly hold: number
  readonly pingInterval: number
  readonly pingTimeout: number
}

/** Where a device is in the tree: below a mirror, whose other legs go on without it, or not. */
export type TreePlace = 'below-mirror' | 'alone'

/** A target's restart takes seconds, and clients give up after a minute or so. */
const alone: Patience = { hold: 30_000, pingInterval: 5000, pingTimeout: 15_000 }

/**
 * Below a mirror the other legs go on: a leg with a broken connection is given up after a second, a
 * silent one within ten, and only what it misses meanwhile is copied when it returns.
 */
const belowMirror: Patience = { hold: 1000, pingInterval: 2000, pingTimeout: 5000 }

/** Pings in the silence after which a connection is given up: one may be lost or late. */
const pingsInSilence = 3

/** The times of a device: as configured; the others by its place and the configured ones. */
export function patienceOf(device: Loose, place: TreePlace): Patience {
  const usual = place === 'below-mirror' ? belowMirror : alone
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
const marginMs = 1000

/** The `legTimeout` of a mirror that is in force, and the remote whose `hold` made it longer. */
export interface LegTimeout {
  readonly milliseconds: number
  /** Path of the remote below the mirror's own; '' where `legTimeout` itself is in force. */
  readonly because: string
}

/**
 * The `legTimeout` in force: at least a second above the longest `hold` below the mirror. A longer
 * `hold` would never be used otherwise, and an operator who configures one wants requests to wait
 * so long for that remote. `find` returns the device of a name.
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
    if (hold > 0 && hold + marginMs > milliseconds) {
      milliseconds = hold + marginMs
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
