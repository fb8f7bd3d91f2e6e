import { parseArgs } from 'node:util'
import { formatSize, MiB, parseSize } from '../src/base/size.ts'
import type { Pace } from './run.ts'

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
  /** Where the report goes; null for its usual place. */
  readonly json: string | null
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
  npm run bench -- --goals            what has to be reached, in about ten minutes
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
                    --goals adds its run to bench-report.goals.json and shows all that are there
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
      size: { type: 'string', default: '256M' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up': { type: 'string' },
      json: { type: 'string' },
      html: { type: 'string', default: 'bench-report.html' },
      compare: { type: 'string' },
      against: { type: 'string' },
    },
  })
  if (values.help === true) return 'help'
  if (values.goals && values['self-test']) throw new TypeError('--goals or --self-test, not both')
  return {
    parameters,
    mode: values.goals ? 'goals' : values['self-test'] ? 'selfTest' : 'report',
    quick: values.quick,
    suites: values.suite.map(suiteOf),
    only: values.only,
    pace: {
      ...numberOf('rounds', values.rounds),
      ...numberOf('seconds', values.seconds),
      ...numberOf('warm-up', values['warm-up']),
    },
    servers: values.server,
    size: sizeOf(values.size),
    json: values.json ?? null,
    html: values.html,
    compare: values.compare ?? null,
    against: values.against ?? null,
  }
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

/** The part of a pace that an option sets; nothing when it was not given. */
function numberOf(option: keyof typeof paceKeys, text: string | undefined): Partial<Pace> {
  if (text === undefined) return {}
  const value = Number(text)
  const enough = option === 'warm-up' ? value >= 0 : value > 0
  if (!enough) throw new TypeError(`--${option} needs a number above 0, not ${text}`)
  return { [paceKeys[option]]: value }
}
