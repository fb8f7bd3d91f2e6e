import { decide, formatChanges, isDecided, isSlower, type Change } from './compare.ts'
import { measureAgain } from '../run/measure.ts'
import type { Plan } from '../run/suites.ts'
import { describeDuration } from '../../src/base/duration.ts'
import type { Report } from '../report/report.ts'

/** What is planted: a target that needs so much more for everything. */
const slowdown = 0.15
/** Comparisons of an unchanged tree, none of which may cry wolf, and of one that became slower. */
const unchangedTimes = 10
const plantedTimes = 3
/** Seconds after which no run is begun. */
const budget = 14 * 60

/**
 * Whether `--compare` can be trusted on this machine: unchanged runs one after the other, each
 * compared with the one before, and between them runs of a target that wastes 15 % of what it
 * needs. True when every planted slowdown was found, and nothing else.
 */
export async function selfTest(plan: Plan): Promise<boolean> {
  const began = performance.now()
  const measure = (share: number): Promise<Report> => measureAgain({ ...plan, slowdown: share })
  const tally = { unchanged: 0, cried: 0, planted: 0, found: 0 }
  let before = await measure(0)
  for (let n = 0; n < unchangedTimes && (performance.now() - began) / 1000 < budget; n++) {
    if (n % Math.floor(unchangedTimes / plantedTimes) === 0 && tally.planted < plantedTimes) {
      const changes = await decide(before, await measure(slowdown), () => measure(slowdown))
      tally.planted++
      if (isSlower(changes)) tally.found++
      tell(`slowed down by ${slowdown * 100} %`, changes)
    }
    const after = await measure(0)
    const changes = await decide(before, after, () => measure(0))
    if (isDecided(changes)) tally.unchanged++
    if (isSlower(changes)) tally.cried++
    tell('unchanged', changes)
    before = after
  }
  const { unchanged, cried, planted, found } = tally
  const time = describeDuration(performance.now() - began)
  process.stdout.write(
    `\nA slowdown of ${slowdown * 100} %: found ${found} times of ${planted}.` +
      `\nNo change: ${cried} false alarms in ${unchanged} comparisons.\n${time}\n`,
  )
  return found === planted && cried === 0 && unchanged === unchangedTimes
}

function tell(what: string, changes: readonly Change[]): void {
  const verdict = !isDecided(changes) ? 'cannot tell' : isSlower(changes) ? 'slower' : 'not slower'
  process.stdout.write(`\n== ${what}: ${verdict}\n${formatChanges(changes, 'the run before')}\n`)
}
