import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { mutantTable } from './mutant-table.ts'
import type { Outcome } from './run.ts'
import { Workers } from './workers.ts'

/** A deliberate defect: a piece of the compiled program replaced by another. */
export interface Mutant {
  readonly name: string
  /** The invariant or trap whose answer it breaks. */
  readonly breaks: string
  /** Below `dist/src`. */
  readonly file: string
  /** Found exactly once in the file, or the table is out of date. */
  readonly find: string
  readonly replace: string
  /** What is known to find it: a seed, or part of the name of a scenario. */
  readonly seed?: number
  readonly scenario?: string
}

export const mutants: readonly Mutant[] = mutantTable

const dist = path.resolve(fileURLToPath(new URL('../..', import.meta.url)))

/** How a hunt goes about it. */
export interface Hunt {
  readonly from: number
  /** Seeds tried for each defect, unless one is known to find it. */
  readonly seeds: number
  /** Only what is known to find each: a check that the checker sees, in bounded time. */
  readonly known: boolean
  readonly workers?: number | undefined
}

/** Plants each defect in a copy of the build; tells whether all were found. */
export async function hunt(list: readonly Mutant[], how: Hunt): Promise<boolean> {
  let missed = 0
  for (const mutant of list) {
    const began = performance.now()
    const folder = path.join(dist, 'mutants', mutant.name)
    plant(mutant, folder)
    const verdict = how.known ? await askKnown(mutant, folder) : await search(folder, how)
    rmSync(folder, { recursive: true })
    if (verdict === '') missed++
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    console.log(`${mutant.name} (${mutant.breaks}): ${verdict || 'NOT FOUND'} (${seconds} s)`)
  }
  console.log(`${list.length - missed} of ${list.length} planted defects found`)
  return missed === 0
}

/** The seed or the scenario that the table names; '' when it sees nothing. */
async function askKnown({ seed, scenario }: Mutant, folder: string): Promise<string> {
  if (seed !== undefined) return search(folder, { from: seed, seeds: 1, known: true, workers: 1 })
  return failingScenario(folder, scenario)
}

/** Runs seeds until one fails, then the scenarios. */
async function search(folder: string, { from, seeds, known, workers }: Hunt): Promise<string> {
  const program = path.join(folder, 'test', 'simulation', 'worker.js')
  const told: Outcome[] = []
  await new Workers(program, workers).run(from, seeds, {}, (outcome) => {
    told.push(outcome)
    return outcome.problem === null
  })
  const found = told.find(({ problem }) => problem !== null)
  if (found === undefined) return known ? '' : failingScenario(folder)
  return `${told.length} seeds, seed ${found.seed}: ${found.problem?.split('\n')[0] ?? ''}`
}

/** The first scenario that fails, of all or of those so named; '' when all is well. */
function failingScenario(folder: string, name = ''): string {
  const mocha = path.join(dist, '..', 'node_modules', 'mocha', 'bin', 'mocha.js')
  const scenarios = path.join(folder, 'test', 'simulation', 'scenarios', '*.test.js')
  const options = ['--no-config', '--timeout', '60000', '--bail', '--no-colors', '--fgrep', name]
  const { status, stdout } = spawnSync(process.execPath, [mocha, ...options, scenarios], {
    encoding: 'utf8',
  })
  if (status === 0) return ''
  return `scenario: ${/1\) scenarios?[^\n]*\n\s*([^\n]*)/.exec(stdout)?.[1] ?? 'ended'}`
}

/** Copies the build and replaces the text; fails when the program has moved on. */
export function plant({ name, file, find, replace }: Mutant, folder: string): void {
  if (existsSync(folder)) rmSync(folder, { recursive: true })
  cpSync(path.join(dist, 'src'), path.join(folder, 'src'), { recursive: true })
  const tests = path.join('test', 'simulation')
  cpSync(path.join(dist, tests), path.join(folder, tests), { recursive: true })
  const target = path.join(folder, 'src', file)
  const text = readFileSync(target, 'utf8')
  const places = text.split(find).length - 1
  if (places !== 1) throw new Error(`mutant ${name}: its text stands ${places} times in ${file}`)
  writeFileSync(
    target,
    text.replace(find, () => replace),
  )
}
