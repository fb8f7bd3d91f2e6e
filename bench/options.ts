import { accessSync, closeSync, constants, existsSync, openSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { formatSize, MiB, parseSize } from '../src/base/size.ts'
import type { Pace } from './run.ts'
import { program } from './trees.ts'

/** A volume holds the largest block a few times. */
const sizeMin = 4 * MiB

/** The parts of a run; `--suite` names some of them. */
export const suiteNames = [
  'peers',
  'protocols',
  'matrix',
  'growth',
  'paths',
  'allocation',
  'mirror',
  'memory',
  'regression',
] as const
export type SuiteName = (typeof suiteNames)[number]

export interface Options {
  /** The words that said all this. */
  readonly parameters: readonly string[]
  /** report: tables of everything. goals: what has to be reached. selfTest: is a slowdown found? */
  readonly mode: 'report' | 'goals' | 'selfTest'
  /** What was asked for in place of each suite's own. */
  readonly pace: Partial<Pace>
  readonly quick: boolean
  /** Empty for all. */
  readonly suites: readonly SuiteName[]
  /** Bytes of each volume. */
  readonly size: number
  /** Where the report goes. */
  readonly json: string
  readonly html: string
  /** A report of an earlier run, to be compared with. */
  readonly compare: string | null
  /** A built checkout of another version, measured in turn with this one. */
  readonly against: string | null
  /** Parts of names of works, and names of servers; empty for all. */
  readonly only: readonly string[]
  readonly servers: readonly string[]
}

export const usage = `Measures the target side by side with other servers.

  npm run bench                       everything: more than an hour
  npm run bench -- --quick            the most important rows, in less than two minutes
  npm run bench -- --goals            what has to be reached, in about twelve minutes
  npm run bench -- --self-test        whether --compare can be trusted here, in 15 minutes
  npm run bench -- --suite peers --suite growth
  npm run bench -- --quick --json new.json --compare old.json
                                      exits 1 when something became slower than in old.json
  npm run bench -- --quick --against ../dst-main
                                      takes turns with another checkout that has been built;
                                      exits 1 when something is slower than there

  --suite NAME      ${suiteNames.join(', ')}; again for more
  --only TEXT       only work whose name holds it, such as "randread 4K ×32"; again for more
  --server NAME     only these servers, such as dst, nbdkit, pump; again for more
  --size SIZE       of each volume; default 256M
  --rounds N        new processes for each
  --seconds N       of each measurement
  --warm-up N       seconds of unmeasured work for each new process
  --json, --html    where to write the report; default bench-report.json and bench-report.html
                    --goals adds its run to bench-report.goals.json and shows all that are there,
                    also in bench-report.goals.html
`

/** Throws a TypeError for what it does not know. */
export function readOptions(parameters: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...parameters],
    options: {
      help: { type: 'boolean' },
      quick: { type: 'boolean', default: false },
      goals: { type: 'boolean', default: false },
      'self-test': { type: 'boolean', default: false },
      suite: { type: 'string', multiple: true, default: [] },
      only: { type: 'string', multiple: true, default: [] },
      server: { type: 'string', multiple: true, default: [] },
      size: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up': { type: 'string' },
      json: { type: 'string' },
      html: { type: 'string' },
      compare: { type: 'string' },
      against: { type: 'string' },
    },
  })
  if (values.help === true) return 'help'
  if (values.goals && values['self-test']) throw new TypeError('--goals or --self-test, not both')
  const mode = values.goals ? 'goals' : values['self-test'] ? 'selfTest' : 'report'
  const given = Object.entries(values).filter(([, value]) => value !== false && !isEmpty(value))
  for (const [name] of given) if (!known[mode].has(name)) throw new TypeError(useless(mode, name))
  const suites = [...new Set(values.suite.map(suiteOf))]
  for (const name of ['compare', 'against'] as const)
    if (values[name] !== undefined && suites.length > 0 && !suites.includes('regression'))
      throw new TypeError(`--${name} judges by the suite regression: add --suite regression`)
  if (values.against !== undefined && !existsSync(join(values.against, program)))
    throw new TypeError(`--against needs a built checkout: there is no ${program} in it`)
  const usual = mode === 'goals' ? usualGoals : usualReport
  const places = { json: values.json ?? usual.json, html: values.html ?? usual.html }
  if (mode !== 'selfTest') mustBeWritable(places)
  return {
    parameters,
    mode,
    quick: values.quick,
    suites,
    only: values.only,
    pace: {
      ...numberOf('rounds', values.rounds),
      ...numberOf('seconds', values.seconds),
      ...numberOf('warm-up', values['warm-up']),
    },
    servers: values.server,
    size: sizeOf(values.size ?? '256M'),
    ...places,
    compare: values.compare ?? null,
    against: values.against ?? null,
  }
}

const usualReport = { json: 'bench-report.json', html: 'bench-report.html' } as const
const usualGoals = { json: 'bench-report.goals.json', html: 'bench-report.goals.html' } as const

/** What each mode heeds; nothing else is taken in silence. */
const paceNames = ['rounds', 'seconds', 'warm-up']
const known = {
  report: new Set([
    ...['quick', 'suite', 'only', 'server', 'size', ...paceNames],
    ...['json', 'html', 'compare', 'against'],
  ]),
  goals: new Set(['goals', 'only', 'server', 'size', ...paceNames, 'json', 'html']),
  selfTest: new Set(['self-test']),
} as const

function useless(mode: Options['mode'], name: string): string {
  return `${mode === 'goals' ? '--goals' : '--self-test'} does not go with --${name}`
}

function isEmpty(value: unknown): boolean {
  return value === undefined || (Array.isArray(value) && value.length === 0)
}

/** Said before an hour of measuring. */
function mustBeWritable(places: { readonly json: string; readonly html: string }): void {
  if (resolve(places.json) === resolve(places.html))
    throw new TypeError('--json and --html need a file each')
  for (const [name, path] of Object.entries(places)) {
    const file = statSync(path, { throwIfNoEntry: false })
    if (file?.isDirectory() === true) throw new TypeError(`--${name} ${path} is a folder`)
    try {
      if (file === undefined) tryToMake(path)
      else accessSync(path, constants.W_OK)
    } catch (error) {
      throw new TypeError(`--${name} ${path} cannot be written`, { cause: error })
    }
  }
}

/** Whether there is a folder for it is the least that can be wrong with a name. */
function tryToMake(path: string): void {
  closeSync(openSync(path, 'wx'))
  rmSync(path)
}

function sizeOf(text: string): number {
  const size = parseSize(text)
  if (size === null || size < sizeMin || size % sizeMin !== 0)
    throw new TypeError(`--size needs a multiple of ${formatSize(sizeMin)}, not ${text}`)
  return size
}

function suiteOf(text: string): SuiteName {
  const found = suiteNames.find((name) => name === text)
  if (found === undefined) throw new TypeError(`--suite needs one of ${suiteNames.join(', ')}`)
  return found
}

const paceKeys = { rounds: 'rounds', seconds: 'seconds', 'warm-up': 'warmUp' } as const

/** Shorter than this a client has hardly begun. */
const leastOf = { rounds: 1, seconds: 0.01 } as const
const wordsOf = {
  rounds: 'a whole number above 0',
  seconds: `a number of ${leastOf.seconds} or more`,
  'warm-up': 'a number of 0 or more',
} as const

/** The part of a pace that an option sets; nothing when it was not given. */
function numberOf(option: keyof typeof paceKeys, text: string | undefined): Partial<Pace> {
  if (text === undefined) return {}
  const value = Number(text)
  const enough = option === 'warm-up' ? value >= 0 : value >= leastOf[option]
  const whole = option !== 'rounds' || Number.isInteger(value)
  if (!enough || !whole || value === Infinity)
    throw new TypeError(`--${option} needs ${wordsOf[option]}, not ${text}`)
  return { [paceKeys[option]]: value }
}
