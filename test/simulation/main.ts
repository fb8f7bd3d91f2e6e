import { parseArgs } from 'node:util'
import { hunt, mutants } from './mutants.ts'
import { runSeed, type Outcome } from './run.ts'
import { play, Plays, playOf } from './crash-points.ts'
import { Workers, type Work } from './workers.ts'

const usage = `Usage: npm run simulate -- [options]

Runs whole clusters of targets, heads and clients in simulated time, with faults, and checks that
no block ever shows anything it may not.

  --seeds N       how many seeds to run, each a world of its own (default 100)
  --from N        the first seed (default 1)
  --seed N        run this one seed, print everything that happens
  --repeat        run each seed twice: the second must be the same to the last event
  --crash-points  instead of seeds, short scripts: each blow at each disk operation, save and packet
  --pairs N       with it: N pairs of blows near each other
  --every N       with it: one of so many
  --play NAME     this one of them, and everything that happens in it
  --workers N     processes side by side (default: one for each processor, at most 4)
  --mutants       instead, plant each known defect in turn and tell how many seeds find it
  --known         of these, only what is known to find them: a few seconds for each
  --only NAME     of the mutants, or of the scripts, just those that are so called
`

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100' },
      from: { type: 'string', default: '1' },
      seed: { type: 'string' },
      repeat: { type: 'boolean', default: false },
      workers: { type: 'string' },
      mutants: { type: 'boolean', default: false },
      only: { type: 'string' },
      known: { type: 'boolean', default: false },
      'crash-points': { type: 'boolean', default: false },
      pairs: { type: 'string', default: '0' },
      every: { type: 'string', default: '1' },
      play: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  if (values.seed !== undefined) return one(number('seed', values.seed))
  if (values.play !== undefined) return tell(await play(playOf(values.play), true))
  const seeds = number('seeds', values.seeds)
  const from = number('from', values.from)
  const workers = values.workers === undefined ? undefined : number('workers', values.workers)
  if (values.mutants) {
    const chosen = mutants.filter(({ name }) => values.only === undefined || name === values.only)
    const { known } = values
    const work: Partial<Work> = values['crash-points'] ? { kind: kindOf(values.pairs) } : {}
    return (await hunt(chosen, { from, seeds, known, workers, work })) ? 0 : 1
  }
  if (!values['crash-points']) return many(from, seeds, { repeat: values.repeat }, workers)
  const only = values.only ?? ''
  const pairs = number('pairs', values.pairs)
  if (pairs > 0) return many(from, pairs, { kind: 'pairs', only }, workers)
  const step = number('every', values.every)
  const first = values.from === '1' ? 0 : from % step
  const { length } = await Plays.of(only)
  const total = Math.ceil((length - first) / step)
  return many(first, total, { kind: 'singles', only, step }, workers)
}

/** Pairs of blows where a number of them is asked for. */
function kindOf(pairs: string): Work['kind'] {
  return pairs === '0' ? 'singles' : 'pairs'
}

function number(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0)
    throw new Error(`--${name} needs a whole number, not ${text}`)
  return value
}

/** Replays one seed and prints everything. */
async function one(seed: number): Promise<number> {
  return tell(await runSeed(seed, true))
}

function tell(outcome: Outcome): number {
  if (outcome.problem === null) {
    console.log(`all is well; fingerprint ${outcome.fingerprint.toString(16)}`)
    return 0
  }
  report(outcome)
  return 1
}

async function many(
  from: number,
  total: number,
  work: Partial<Work>,
  count: number | undefined,
): Promise<number> {
  const began = performance.now()
  const workers = new Workers(undefined, count)
  let failed = 0
  let done = 0
  let operations = 0
  let faults = 0
  await workers.run(from, total, work, (outcome) => {
    done++
    operations += outcome.operations
    faults += outcome.faults
    if (outcome.problem !== null) {
      failed++
      report(outcome)
    }
    if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total}, ${failed} failed `)
    return true
  })
  if (process.stderr.isTTY) process.stderr.write('\r')
  const seconds = (performance.now() - began) / 1000
  console.log(
    `${done} ${work.kind ?? 'seeds'} from ${from}: ${failed} failed; ${operations} operations, ` +
      `${faults} faults, ${seconds.toFixed(1)} s, ${(done / seconds).toFixed(1)} a second`,
  )
  return failed === 0 ? 0 : 1
}

function report({ seed, name, problem, history }: Outcome): void {
  console.log(`\n${name === undefined ? `SEED ${seed}` : `PLAY ${name}`} FAILED: ${problem ?? ''}`)
  console.log(history.join('\n'))
  const again = name === undefined ? `--seed ${seed}` : `--play '${name}'`
  console.log(`again: npm run simulate -- ${again}\n`)
}

main().then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 2
  },
)
