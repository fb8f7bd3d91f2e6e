import { costPerOperation, groupRows, ourServer, type Report } from './report.ts'
import type { Row } from './run.ts'
import { holm, mean, welch } from './stats.ts'
import { nameOf } from './work.ts'

/** What results of two runs are held against in each: it costs the same whatever we change. */
const referenceServer = 'pump'

/**
 * Slower by less than this is not called slower: what the state of the machine, the layout of a
 * process and a compiler's moods do to two runs of the same program.
 */
export const margin = 0.05

/** How sure to be: of all comparisons of unchanged programs, fewer than this cry wolf. */
export const level = 0.01

/** A row of both reports, or all of them together. */
export interface Change {
  readonly what: string
  /** Cost after ÷ cost before. */
  readonly ratio: number
  /** The chance that noise looks like this, if it became slower by no more than the margin. */
  readonly chance: number
  readonly slower: boolean
}

/**
 * What became slower from `before` to `after`, as processor time per operation relative to the
 * reference in the same round of the same run. Each row is tested by itself, and all rows together,
 * one value for each round: a slowdown that is everywhere is seen far earlier.
 */
export function compare(before: Report, after: Report): Change[] {
  const old = relativeCosts(before)
  const now = relativeCosts(after)
  const keys = [...now.keys()].filter((key) => old.has(key))
  if (keys.length === 0) return []
  const all = [...keys.map((key) => [key, old.get(key)!, now.get(key)!] as const)]
  const changes = [['all rows', perRound(keys, old), perRound(keys, now)] as const, ...all].map(
    ([what, was, is]) => ({
      what,
      ratio: Math.exp(mean(is) - mean(was)),
      chance: welch(was, is, Math.log(1 + margin)),
    }),
  )
  // Half of the allowed error is for all rows together, the other half for any of the rows.
  const slower = [
    changes[0]!.chance <= level / 2,
    ...holm(
      changes.slice(1).map(({ chance }) => chance),
      level / 2,
    ),
  ]
  return changes.map((change, at) => ({ ...change, slower: slower[at]! }))
}

/** By row: for each round the logarithm of our cost ÷ the reference's. */
function relativeCosts(report: Report): Map<string, number[]> {
  const costs = new Map<string, number[]>()
  for (const group of groupRows(report.rows)) {
    const reference = group.find(({ server }) => server === referenceServer)
    if (reference === undefined) continue
    for (const row of group)
      if (row.server === ourServer)
        costs.set(`${row.suite}: ${nameOf(row.work)} (${row.setting})`, logRatios(row, reference))
  }
  return costs
}

function logRatios(row: Row, reference: Row): number[] {
  return row.rounds.map((round, at) =>
    Math.log(costPerOperation(round) / costPerOperation(reference.rounds[at]!)),
  )
}

/** The mean over the rows, round by round. */
function perRound(keys: readonly string[], costs: ReadonlyMap<string, number[]>): number[] {
  const rounds = Math.min(...keys.map((key) => costs.get(key)!.length))
  return Array.from({ length: rounds }, (_, round) =>
    mean(keys.map((key) => costs.get(key)![round]!)),
  )
}

/** Lines for people. */
export function formatChanges(changes: readonly Change[]): string {
  if (changes.length === 0) return `No row of both reports has ${ourServer} and ${referenceServer}.`
  const lines = changes.map(({ what, ratio, chance, slower }) => {
    const percent = `${ratio >= 1 ? '+' : '−'}${Math.abs((ratio - 1) * 100).toFixed(1)} %`
    const word = (slower ? 'SLOWER' : '').padEnd(7)
    return `${word}${percent.padStart(9)}  p ${chance.toFixed(4)}  ${what}`
  })
  return `Processor time per operation, against the earlier report:\n${lines.join('\n')}`
}
