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
}

export const mutants: readonly Mutant[] = mutantTable

const dist = path.resolve(fileURLToPath(new URL('../..', import.meta.url)))

/** Plants each defect in a copy of the build and runs seeds until one finds it. */
export async function hunt(
  list: readonly Mutant[],
  from: number,
  seedsMax: number,
  workers?: number,
): Promise<boolean> {
  let allFound = true
  for (const mutant of list) {
    const folder = path.join(dist, 'mutants', mutant.name)
    plant(mutant, folder)
    const program = path.join(folder, 'test', 'simulation', 'worker.js')
    const told: Outcome[] = []
    await new Workers(program, workers).run(from, seedsMax, false, (outcome) => {
      told.push(outcome)
      return outcome.problem === null
    })
    const scenario = told.some(({ problem }) => problem !== null) ? '' : failingScenario(folder)
    rmSync(folder, { recursive: true })
    const found = told.find(({ problem }) => problem !== null)
    allFound &&= found !== undefined || scenario !== ''
    const problem = found?.problem?.split('\n')[0] ?? ''
    const verdict = found === undefined ? scenario || 'NOT FOUND' : `seed ${found.seed}: ${problem}`
    console.log(`${mutant.name} (${mutant.breaks}): ${told.length} seeds, ${verdict}`)
  }
  return allFound
}

/** What the named scenarios say of a copy, where chance found nothing; '' when all is well. */
function failingScenario(folder: string): string {
  const mocha = path.join(dist, '..', 'node_modules', 'mocha', 'bin', 'mocha.js')
  const scenarios = path.join(folder, 'test', 'simulation', 'scenarios', '*.test.js')
  const options = ['--no-config', '--timeout', '20000', '--bail', '--no-colors', scenarios]
  const { status, stdout } = spawnSync(process.execPath, [mocha, ...options], { encoding: 'utf8' })
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
