import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Plays } from './crash-points.ts'
import { mutantTable } from './mutant-table.ts'
import { mutantsOfLosses } from './mutants-of-losses.ts'
import type { Outcome } from './run.ts'
import { Workers, type Work } from './workers.ts'

/** A piece of the compiled program replaced by another. */
export interface Edit {
  /** Below `dist/src`. */
  readonly file: string
  /** Found exactly once in the file, or the table is out of date. */
  readonly find: string
  readonly replace: string
}

/** A deliberate defect. */
export interface Mutant extends Edit {
  readonly name: string
  /** The invariant or trap whose answer it breaks. */
  readonly breaks: string
  /** Other places that would see to it as well. */
  readonly also?: readonly Edit[]
  /** What is known to find it: a seed, or part of the name of a scenario. */
  readonly seed?: number
  readonly scenario?: string
  /** Or a part of the name of scripts, and the blow, of which one play finds it. */
  readonly plays?: { readonly script: string; readonly blow: string }
}

export const mutants: readonly Mutant[] = [...mutantTable, ...mutantsOfLosses]

const dist = path.resolve(fileURLToPath(new URL('../..', import.meta.url)))

/** How a hunt goes about it. */
export interface Hunt {
  readonly from: number
  /** Seeds tried for each defect, unless one is known to find it. */
  readonly seeds: number
  /** Only what is known to find each: a check that the checker sees, in bounded time. */
  readonly known: boolean
  readonly workers?: number | undefined
  /** What is run instead of seeds. */
  readonly work?: Partial<Work>
}

/** Plants each defect in a copy of the build; tells whether all were found. */
export async function hunt(list: readonly Mutant[], how: Hunt): Promise<boolean> {
  let missed = 0
  for (const mutant of list) {
    const began = performance.now()
    const folder = path.join(dist, 'mutants', mutant.name)
    const planted = plant(mutant, folder)
    let verdict = ''
    if (planted) verdict = await (how.known ? askKnown(mutant, folder) : search(folder, how))
    rmSync(folder, { recursive: true })
    if (verdict === '') missed++
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    console.log(`${mutant.name} (${mutant.breaks}): ${verdict || 'NOT FOUND'} (${seconds} s)`)
  }
  console.log(`${list.length - missed} of ${list.length} planted defects found`)
  return missed === 0
}

/** The seed or the scenario that the table names; '' when it sees nothing. */
async function askKnown({ seed, scenario, plays }: Mutant, folder: string): Promise<string> {
  if (seed !== undefined) return search(folder, { from: seed, seeds: 1, known: true, workers: 1 })
  if (plays === undefined) return failingScenario(folder, scenario)
  const { length } = await Plays.of(plays.script, plays.blow)
  const work: Partial<Work> = { kind: 'singles', only: plays.script, blow: plays.blow }
  return searchFor(folder, work, { from: 0, seeds: length, known: true, workers: 1 })
}

/** Runs seeds until one fails, then the scenarios. */
async function search(folder: string, how: Hunt): Promise<string> {
  const found = await searchFor(folder, how.work ?? {}, how)
  return found !== '' || how.known ? found : failingScenario(folder)
}

/** Runs what is asked for until one fails. */
async function searchFor(
  folder: string,
  work: Partial<Work>,
  { from, seeds, workers }: Hunt,
): Promise<string> {
  const program = path.join(folder, 'test', 'simulation', 'worker.js')
  const told: Outcome[] = []
  await new Workers(program, workers).run(from, seeds, work, (outcome) => {
    told.push(outcome)
    return outcome.problem === null
  })
  const found = told.find(({ problem }) => problem !== null)
  if (found === undefined) return ''
  const name = found.name ?? `seed ${found.seed}`
  return `${told.length} runs, ${name}: ${found.problem?.split('\n')[0] ?? ''}`
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

/** Copies the build and replaces the text; false when the program has moved on. */
export function plant(mutant: Mutant, folder: string): boolean {
  if (existsSync(folder)) rmSync(folder, { recursive: true })
  cpSync(path.join(dist, 'src'), path.join(folder, 'src'), { recursive: true })
  // Looked for beside the folder of the build.
  cpSync(path.join(dist, '..', 'schemas'), path.join(folder, '..', 'schemas'), { recursive: true })
  for (const tests of [path.join('test', 'simulation'), path.join('test', 'support')])
    cpSync(path.join(dist, tests), path.join(folder, tests), { recursive: true })
  return [mutant, ...(mutant.also ?? [])].every((edit) => apply(edit, mutant.name, folder))
}

function apply({ file, find, replace }: Edit, name: string, folder: string): boolean {
  const target = path.join(folder, 'src', file)
  const text = readFileSync(target, 'utf8')
  const places = text.split(find).length - 1
  if (places !== 1) {
    console.log(`${name}: its text stands ${places} times in ${file}`)
    return false
  }
  writeFileSync(
    target,
    text.replace(find, () => replace),
  )
  return true
}
