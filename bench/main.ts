import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { printable } from '../src/cli/print.ts'
import { cleanUp, cleanUpAtEnd, trackFolder } from './servers/cleanup.ts'
import {
  compareWithin,
  decide,
  formatChanges,
  isDecided,
  isSlower,
  type Change,
} from './compare/compare.ts'
import { caveats, readEarlier } from './compare/earlier.ts'
import { measureGoals } from './report/goals.ts'
import { measureAgain, measureAll } from './run/measure.ts'
import type { Plan } from './run/suites.ts'
import { readOptions, type Options } from './options.ts'
import { formatTables, type Report } from './report/report.ts'
import { selfTest } from './compare/self-test.ts'
import type { Folders } from './servers/servers.ts'
import { messageOf } from './servers/process.ts'

/** Exit codes; also `slower` when it could not be told. */
const slower = 1
const failed = 1
const usageError = 2

async function main(): Promise<void> {
  let options: Options | 'help'
  let earlier: Report | null
  try {
    options = readOptions(process.argv.slice(2))
    // Read before an hour of measuring, and before the new report, which may take its place.
    earlier = options === 'help' || options.compare === null ? null : readEarlier(options.compare)
  } catch (error) {
    process.stderr.write(`bench: error: ${printable(messageOf(error))}\n`)
    process.exitCode = usageError
    return
  }
  if (options === 'help') return
  cleanUpAtEnd()
  const plan = { ...options, folders: makeFolders(), omitted: [] }
  try {
    const report = (): Promise<boolean> => makeReport(plan, earlier)
    const well = await { goals: measureGoals, selfTest, report }[plan.mode](plan)
    if (!well) process.exitCode = slower
  } catch (error) {
    process.stderr.write(`bench: error: ${messageOf(error)}\n`)
    process.exitCode = failed
  } finally {
    cleanUp()
  }
}

/** False when something became slower, or when that could not be told. */
async function makeReport(plan: Plan, earlier: Report | null): Promise<boolean> {
  const report = await measureAll(plan)
  process.stdout.write(`${formatTables(report)}\n`)
  writeFileSync(plan.json, JSON.stringify(report, null, 1))
  let well = true
  if (plan.against !== null)
    well = tell(compareWithin(report), `${plan.against} (${report.against}), measured in turn`)
  if (earlier !== null) {
    const again = (): Promise<Report> => {
      process.stdout.write('\nMeasuring again, to be sure.\n')
      return measureAgain(plan)
    }
    const { machine, started } = earlier
    for (const line of caveats(earlier, report))
      process.stdout.write(`\nNot the same: ${printable(line)}`)
    const than = printable(`the earlier report (commit ${machine.commit}, ${started})`)
    well = tell(await decide(earlier, report, again), than) && well
  }
  return well
}

/** Prints changes; true when it is certain that nothing became slower. */
function tell(changes: readonly Change[], than: string): boolean {
  process.stdout.write(`\n${formatChanges(changes, than)}\n`)
  return isDecided(changes) && !isSlower(changes)
}

/** Where Linux has a tmpfs for everybody. */
const memoryFolder = '/dev/shm'

/** On the disk under test, and in memory where the system has such a folder. */
function makeFolders(): Folders {
  const make = (parent: string): string => {
    const path = mkdtempSync(join(parent, `dst-bench-${process.pid}-`))
    trackFolder(path)
    return path
  }
  const disk = make(tmpdir())
  return { disk, memory: existsSync(memoryFolder) ? make(memoryFolder) : disk }
}

await main()
