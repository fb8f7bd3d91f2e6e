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
  if (eyes.has('rollBack') && plan.shape !== 'remote') faults.push('rollBack', 'rollBack')
  if (eyes.has('olderHead') && hasHeadsApart(plan)) {
    const apart: readonly FaultKind[] = ['grow', 'restore', 'trust']
    const kept = faults.filter((kind) => !apart.includes(kind))
    faults.splice(0, faults.length, ...kept, 'takeover', 'olderHead', 'olderHead')
    faults.push('killTarget', 'crashTarget', 'ambush', 'partition')
  }
  const settings = eyes.has('noLog') ? { ...plan.settings, intentLog: false } : plan.settings
  return { ...plan, eyes, faults, settings }
}
