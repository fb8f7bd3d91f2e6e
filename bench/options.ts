import { parseArgs } from 'node:util'
import { formatSize, MiB, parseSize } from '../src/base/size.ts'
import type { Pace } from './run.ts'

/** A volume holds the largest block a few times. */
const sizeMin = 4 * MiB

export interface Options {
  readonly pace: Pace
  readonly quick: boolean
  /** Names of suites; empty for all. */
  readonly suites: readonly string[]
  /** Bytes of each volume. */
  readonly size: number
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
  npm run bench -- --quick            the rows that goals are about, in less than two minutes
  npm run bench -- --suite peers --suite growth
  npm run bench -- --quick --json new.json --compare old.json
                                      exits 1 when something became slower than in old.json
  npm run bench -- --quick --against ../dst-main
                                      takes turns with another checkout that has been built

  --suite NAME      peers, matrix, growth, paths, allocation; again for more
  --only TEXT       only work whose name holds it, such as "randread 4K ×32"; again for more
  --server NAME     only these servers, such as dst, nbdkit, pump; again for more
  --size SIZE       of each volume; default 256M
  --rounds N        new processes for each
  --seconds N       of each measurement
  --warm-up N       seconds of unmeasured work for each new process
  --json, --html    where to write the report; default bench-report.json and bench-report.html
`

const fullPace: Pace = { rounds: 5, seconds: 2, warmUp: 2 }
const quickPace: Pace = { rounds: 6, seconds: 0.25, warmUp: 0.6 }

/** Throws a TypeError for what it does not know. */
export function readOptions(parameters: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...parameters],
    options: {
      help: { type: 'boolean' },
      quick: { type: 'boolean', default: false },
      suite: { type: 'string', multiple: true, default: [] },
      only: { type: 'string', multiple: true, default: [] },
      server: { type: 'string', multiple: true, default: [] },
      size: { type: 'string', default: '256M' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up': { type: 'string' },
      json: { type: 'string', default: 'bench-report.json' },
      html: { type: 'string', default: 'bench-report.html' },
      compare: { type: 'string' },
      against: { type: 'string' },
    },
  })
  if (values.help === true) return 'help'
  const pace = values.quick ? quickPace : fullPace
  return {
    quick: values.quick,
    suites: values.suite,
    only: values.only,
    pace: {
      rounds: numberOf('--rounds', values.rounds) ?? pace.rounds,
      seconds: numberOf('--seconds', values.seconds) ?? pace.seconds,
      warmUp: numberOf('--warm-up', values['warm-up']) ?? pace.warmUp,
    },
    servers: values.server,
    size: sizeOf(values.size),
    json: values.json,
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

function numberOf(option: string, text: string | undefined): number | null {
  if (text === undefined) return null
  const value = Number(text)
  const enough = option === '--warm-up' ? value >= 0 : value > 0
  if (!enough) throw new TypeError(`${option} needs a number above 0, not ${text}`)
  return value
}
