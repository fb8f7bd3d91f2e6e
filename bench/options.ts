import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import yargs from 'yargs'
import { formatSize, MiB, parseSize } from '../src/base/size.ts'
import type { Pace } from './run/run.ts'
import { program } from './servers/trees.ts'

/** A volume holds the largest block a few times. */
const sizeMin = 4 * MiB
/** Shorter than this a client has hardly begun. */
const secondsMin = 0.01

/** The parts of a run; `--suite` names some of them. */
export const suiteNames = ['peers', 'protocols', 'memory', 'allocation', 'regression'] as const
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
  /** A report of an earlier run, to be compared with. */
  readonly compare: string | null
  /** A built checkout of another version, measured in turn with this one. */
  readonly against: string | null
  /** Parts of names of works, and names of servers; empty for all. */
  readonly only: readonly string[]
  readonly servers: readonly string[]
}

const columnsMax = 100
const paceNames = ['rounds', 'seconds', 'warm-up'] as const
const reportOnly = ['quick', 'suite', 'compare', 'against'] as const

/** Throws a TypeError for an option that is not known. Prints the help if `--help` is there. */
export function readOptions(parameters: readonly string[]): Options | 'help' {
  const found = parser(parameters).parseSync()
  if (found.help === true) return 'help'
  const { goals = false, suite = [] } = found
  const mode = goals ? 'goals' : found.selfTest === true ? 'selfTest' : 'report'
  const json = found.json ?? (goals ? 'bench-report.goals.json' : 'bench-report.json')
  if (mode !== 'selfTest') mustBeWritable(json)
  return {
    parameters,
    mode,
    json,
    quick: found.quick ?? false,
    suites: [...new Set(suite)],
    only: found.only ?? [],
    servers: found.server ?? [],
    pace: Object.fromEntries(
      (['rounds', 'seconds', 'warmUp'] as const)
        .filter((name) => found[name] !== undefined)
        .map((name) => [name, found[name]]),
    ),
    size: found.size ?? 256 * MiB,
    compare: found.compare ?? null,
    against: found.against ?? null,
  }
}

function parser(parameters: readonly string[]) {
  const text = { type: 'string', requiresArg: true } as const
  const number = { type: 'number', requiresArg: true } as const
  const texts = { ...text, array: true } as const
  return yargs([...parameters])
    .scriptName('npm run bench --')
    .usage('$0 [OPTION...]: measures the target side by side with other servers')
    .options({
      quick: { type: 'boolean', describe: 'the most important rows, in less than two minutes' },
      goals: { type: 'boolean', describe: 'what has to be reached; adds its run to its report' },
      'self-test': { type: 'boolean', describe: 'whether --compare can be trusted here' },
      suite: { ...texts, choices: suiteNames, describe: 'one part; again for more' },
      only: { ...texts, describe: 'only work whose name holds it, such as "randread 4K ×32"' },
      server: { ...texts, describe: 'only these servers, such as dst, nbdkit, pump' },
      size: { ...text, coerce: sizeOf, describe: 'of each volume; default 256M' },
      rounds: { ...number, describe: 'new processes for each' },
      seconds: { ...number, describe: 'of each measurement' },
      'warm-up': { ...number, describe: 'seconds of unmeasured work for each new process' },
      json: { ...text, describe: 'where the report goes; default bench-report[.goals].json' },
      compare: { ...text, describe: 'an earlier report; exits 1 when something became slower' },
      against: {
        ...text,
        describe:
          'a built checkout to take turns with; exits 1 when something is slower than there',
      },
    })
    .conflicts('goals', [...reportOnly])
    .conflicts('self-test', [...reportOnly, ...paceNames])
    .conflicts('self-test', ['goals', 'only', 'server', 'size', 'json'])
    .check(({ rounds = 1, seconds = secondsMin, 'warm-up': warmUp = 0 }) => {
      if (!(Number.isSafeInteger(rounds) && rounds > 0))
        throw new TypeError('--rounds needs a whole number above 0')
      if (!(seconds >= secondsMin && seconds < Infinity))
        throw new TypeError(`--seconds needs a number of ${secondsMin} or more`)
      if (!(warmUp >= 0 && warmUp < Infinity))
        throw new TypeError('--warm-up needs a number of 0 or more')
      return true
    })
    .check(({ suite = [], compare, against, _: words, ...rest }) => {
      for (const [name, value] of Object.entries({ ...rest, compare, against }))
        if (Array.isArray(value) && name !== 'only' && name !== 'server')
          throw new TypeError(`--${name} is given more than once`)
      if (words.length > 0) throw new TypeError(`unknown argument: ${words.join(' ')}`)
      if ((compare ?? against) !== undefined && suite.length > 0 && !suite.includes('regression'))
        throw new TypeError('--compare and --against judge by --suite regression: add it')
      if (against !== undefined && !existsSync(join(against, program)))
        throw new TypeError(`--against needs a built checkout: there is no ${program} in it`)
      return true
    })
    .parserConfiguration({ 'greedy-arrays': false, 'boolean-negation': false })
    .strict()
    .version(false)
    .wrap(columnsMax)
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      const text = message ?? error?.message ?? 'wrong usage'
      throw new TypeError(text.replaceAll(/\s*\n\s*/g, ' '), { cause: error })
    })
}

/** Said before an hour of measuring. */
function mustBeWritable(path: string): void {
  const absent = !existsSync(path)
  try {
    closeSync(openSync(path, 'a'))
    if (absent) rmSync(path)
  } catch (error) {
    throw new TypeError(`--json ${path} cannot be written`, { cause: error })
  }
}

function sizeOf(text: string): number {
  const size = parseSize(text)
  if (size === null || size < sizeMin || size % sizeMin !== 0)
    throw new TypeError(`--size needs a multiple of ${formatSize(sizeMin)}, not ${text}`)
  return size
}
