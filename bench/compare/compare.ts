import { comparedKey, regressionSuite, roundsMin } from './regression.ts'
import {
  costPerOperation,
  groupRows,
  ourServer,
  pairs,
  rowKey,
  type Report,
} from '../report/report.ts'
import type { Row } from '../run/run.ts'
import { chanceOf, difference, holm, trimmedMean, type Estimate } from './stats.ts'
import { otherServer } from '../run/suites.ts'

/** What results of two runs are held against in each: it costs the same whatever we change. */
export const referenceServer = 'pump'

/**
 * Slower by less than this is not called slower: what the layout of a process and a compiler's
 * moods do to two runs of the same program.
 */
export const margin = 0.03

/**
 * What the state of the machine adds to a run, beyond what its rounds show: a standard deviation of
 * the logarithm. Three runs at a load of thirteen on two cores differed by 0.017, their rounds' own
 * error included.
 */
const betweenRuns = 0.01

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
  /** Rounds of the shorter run: fewer than `roundsMin` tell nothing. */
  readonly rounds: number
}

/**
 * What became slower from `before` to `after`, as processor time per operation relative to the
 * reference in the same round of the same run. Each row is tested by itself, and all rows together,
 * one value for each round: a slowdown that is everywhere is seen far earlier.
 */
export function compare(before: Report, after: Report): Change[] {
  const old = relativeCosts(before, referenceServer)
  const now = relativeCosts(after, referenceServer)
  const keys = [...now.keys()].filter((key) => old.has(key))
  return judge(keys, [old, now], ([was, is]) => difference(was!, is!), 2 * betweenRuns ** 2)
}

/** What is slower than the other version that was measured in turn with ours. */
export function compareWithin(report: Report): Change[] {
  const costs = relativeCosts(report, otherServer)
  return judge([...costs.keys()], [costs], ([only]) => only!, 0)
}

type Costs = ReadonlyMap<string, readonly number[]>

function judge(
  keys: readonly string[],
  runs: readonly Costs[],
  estimate: (of: readonly Estimate[]) => Estimate,
  extra: number,
): Change[] {
  if (keys.length === 0) return []
  const series = [
    ['all rows', runs.map((run) => perRound(keys, run))] as const,
    ...keys.map((key) => [key, runs.map((run) => run.get(key)!)] as const),
  ]
  const changes = series.map(([what, values]) => {
    const found = estimate(values.map(trimmedMean))
    const chance = chanceOf(found, Math.log(1 + margin), extra)
    const rounds = Math.min(...values.map(({ length }) => length))
    return { what, ratio: Math.exp(found.mean), chance, rounds }
  })
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
function relativeCosts(report: Report, than: string): Map<string, number[]> {
  const costs = new Map<string, number[]>()
  for (const group of groupRows(report.rows.filter(({ suite }) => suite === regressionSuite))) {
    const reference = group.find(({ server }) => server === than)
    if (reference === undefined) continue
    for (const row of group)
      if (row.server === ourServer) costs.set(comparedKey(row), logRatios(row, reference))
  }
  return costs
}

/** Throws an Error where a cost is no number: nothing that is tested would be called slower. */
function logRatios(row: Row, reference: Row): number[] {
  return pairs(row, reference).map(([ours, its]) => {
    const ratio = costPerOperation(ours) / costPerOperation(its)
    if (ratio > 0 && ratio < Infinity) return Math.log(ratio)
    throw new Error(`nothing can be said: a cost is no number in ${comparedKey(row)}`)
  })
}

/** The mean over the rows, round by round, without those at either end. */
function perRound(keys: readonly string[], costs: Costs): number[] {
  const rounds = Math.min(...keys.map((key) => costs.get(key)!.length))
  return Array.from(
    { length: rounds },
    (_, round) => trimmedMean(keys.map((key) => costs.get(key)![round]!)).mean,
  )
}

/** A chance between this and the level says that there may be something: more rounds tell. */
const unsureLevel = 0.3
/** How sure a second run has to be of what the first one has found. */
const confirmLevel = 0.05

/**
 * What became slower since `before`: measured longer where `after` leaves it open, and once more
 * where something seems slower, because what else a machine does in one run is seldom the same in
 * the next. `again` measures the same tree as `after`.
 */
export async function decide(
  before: Report,
  after: Report,
  again: () => Promise<Report>,
): Promise<Change[]> {
  let changes = compare(before, after)
  const [all] = changes
  if (all !== undefined && !all.slower && all.chance <= unsureLevel)
    changes = compare(before, pool(after, await again()))
  return isSlower(changes) ? confirm(changes, compare(before, await again())) : changes
}

/** Whether there was enough to judge by; on a machine that is too busy there may not be. */
export function isDecided(changes: readonly Change[]): boolean {
  return changes.length > 0 && changes.every(({ rounds }) => rounds >= roundsMin)
}

export function isSlower(changes: readonly Change[]): boolean {
  return changes.some(({ slower }) => slower)
}

/** What is slower by `first`, and seems so by `second`. */
export function confirm(first: readonly Change[], second: readonly Change[]): Change[] {
  return second.map((change) => {
    const before = first.find(({ what }) => what === change.what)
    return { ...change, slower: before?.slower === true && change.chance <= confirmLevel }
  })
}

/** One report with the rounds of both. */
export function pool(first: Report, second: Report): Report {
  const rows = first.rows.map((row) => {
    const key = rowKey(row)
    const same = second.rows.find((one) => one.server === row.server && rowKey(one) === key)
    const later = 1 + Math.max(...row.rounds.map(({ round }) => round))
    const more = (same?.rounds ?? []).map((one) => ({ ...one, round: one.round + later }))
    return { ...row, rounds: [...row.rounds, ...more] }
  })
  return { ...first, rows }
}

/** Lines for people; `than` names what it is compared with. */
export function formatChanges(changes: readonly Change[], than: string): string {
  if (changes.length === 0) return `Nothing to compare with ${than}: no common rows.`
  const lines = changes.map(({ what, ratio, chance, slower }) => {
    const percent = `${ratio >= 1 ? '+' : '−'}${Math.abs((ratio - 1) * 100).toFixed(1)} %`
    const word = (slower ? 'SLOWER' : '').padEnd(7)
    return `${word}${percent.padStart(9)}  p ${chance.toFixed(4)}  ${what}`
  })
  if (!isDecided(changes))
    lines.push(`Fewer than ${roundsMin} rounds: nothing can be said. The machine is too busy.`)
  return `Processor time per operation, against ${than}:\n${lines.join('\n')}`
}
