import { KiB } from '../../src/base/size.ts'
import type { PutOff } from './clock.ts'
import type { Dice } from './dice.ts'
import { eyeNames, isOpen, type Eye } from './eyes.ts'
import type { FaultKind, Plan } from './plan.ts'

/** Whether every head can reach every leg. */
function hasHeadsApart({ shape, legs }: Plan): boolean {
  return shape === 'mirror' && legs.every(({ kind }) => kind === 'remote')
}

/** How many seeds have each eye that is open. */
const share = 0.4

/**
 * A plan with some of what worlds may be beyond what they were at first. By chance of its own, so
 * that the rest of the plan is the same without it.
 */
export function widen(plan: Plan, dice: Dice): Plan {
  const chosen = eyeNames.filter((eye) => dice.chance(share) && isOpen(eye))
  const eyes = new Set<Eye>(chosen)
  const faults: FaultKind[] = [...plan.faults]
  if (eyes.has('drops')) faults.push('flushFails')
  if (eyes.has('saves')) faults.push('saveHangs')
  if (eyes.has('rollBack') && plan.shape !== 'remote')
    faults.push('rollBack', 'rollBack', 'rollBack', 'killHead')
  if (eyes.has('olderHead') && hasHeadsApart(plan)) {
    const apart: readonly FaultKind[] = ['grow', 'restore', 'trust']
    const kept = faults.filter((kind) => !apart.includes(kind))
    faults.splice(0, faults.length, ...kept, 'takeover', 'olderHead', 'olderHead')
    faults.push('killTarget', 'crashTarget', 'ambush', 'partition')
  }
  if (eyes.has('pairs')) faults.push(...pairsOf(plan, dice))
  const settings = { ...plan.settings, ...(eyes.has('noLog') ? { intentLog: false } : {}) }
  const whole = { ...plan, eyes, faults, settings }
  return eyes.has('extremes') ? toExtremes(whole, dice) : whole
}

/** Ambushes, among the other faults or instead of them. */
function pairsOf(plan: Plan, dice: Dice): FaultKind[] {
  if (plan.shape === 'remote') return []
  return Array.from({ length: dice.pick([1, 4, 16]) }, () => 'twoBlows')
}

/** A few settings, each as small or as large as it can be. */
function toExtremes(plan: Plan, dice: Dice): Plan {
  const { settings, remote, workload } = plan
  const some = <T extends object>(all: T): Partial<T> =>
    Object.fromEntries(Object.entries(all).filter(() => dice.chance(0.3))) as Partial<T>
  return {
    ...plan,
    settings: {
      ...settings,
      ...some({
        hotExtentsMax: dice.pick([1, 100_000]),
        intentIdleMs: dice.pick([1, 600_000]),
        legTimeoutMs: dice.pick([50, 600_000]),
        legRetryMs: dice.pick([1, 2000]),
        suspendMs: dice.pick([1, 100_000]),
        resyncWindow: dice.pick([1, 64]),
        resyncCheckpointBytes: dice.pick([4 * KiB, 1024 * KiB]),
        historyMax: 1,
      }),
    },
    remote: {
      ...remote,
      ...some({
        hold: dice.pick([1, 60_000]),
        connections: dice.pick([1, 8]),
        requestTimeout: dice.pick([20, 60_000]),
      }),
    },
    workload: {
      ...workload,
      ...some({
        depth: dice.pick([1, 64]),
        flush: dice.pick([0, 20]),
        fua: dice.pick([0, 20]),
        sectorsMax: dice.pick([1, 400]),
        hot: dice.pick([1, 0]),
      }),
    },
    latency: dice.chance(0.3) ? dice.pick([0, 5]) : plan.latency,
  }
}

/** Events put off at most, and how many others there are between two of them at most. */
const delaysMax = 3
const eventsMax = 10_000

/** Two or three events that come when everything else has happened. */
export function delaysOf(dice: Dice): PutOff[] {
  return Array.from({ length: dice.integer(2, delaysMax) }, () => ({
    n: Math.ceil(dice.skewed(1, eventsMax)),
    ms: dice.between(0.5, dice.pick([2, 20, 200, 2000])),
  }))
}
