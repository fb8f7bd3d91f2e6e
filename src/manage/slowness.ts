import type * as status from './status.types.ts'

/** Milliseconds from which a leg can be slow: clients notice, and resync slows down for it. */
const slowMs = 50
/** A slow leg takes at least so many times as long as the quickest other one. */
const factor = 5

const verbs = { write: 'writes take', flush: 'flushes take', read: 'reads take' } as const

/**
 * Finds the legs in sync that take much longer than another for the same operation, with a sentence
 * for each: all writes are as slow as the slowest leg, and nothing else says which one that is.
 */
export function slowLegs(legs: Readonly<Record<string, status.Leg>>): ReadonlyMap<string, string> {
  const slow = new Map<string, string>()
  const taking = Object.entries(legs).filter(([, { state }]) => state === 'in-sync')
  for (const [operation, verb] of Object.entries(verbs))
    for (const [name, leg] of taking) {
      if (slow.has(name)) continue
      const own = latency(leg, operation)
      const others = taking.filter((other) => other[0] !== name)
      const [quickest] = others
        .map(([other, each]) => ({ name: other, ms: latency(each, operation) }))
        .filter((each): each is { name: string; ms: number } => each.ms !== null)
        .toSorted((one, other) => one.ms - other.ms)
      if (own === null || quickest === undefined) continue
      if (own >= slowMs && own >= factor * quickest.ms)
        slow.set(name, `${verb} ${words(own)}, those of ${quickest.name} ${words(quickest.ms)}`)
    }
  return slow
}

function latency({ device }: status.Leg, operation: string): number | null {
  return device?.latency[operation] ?? null
}

function words(ms: number): string {
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms >= 10 ? ms.toFixed(0) : ms} ms`
}
