import type { Argv } from 'yargs'
import { systemClock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import { describeSize, formatSize } from '../base/size.ts'
import type { Device, Facts } from '../device/device.ts'
import { Load, type LoadResult, type Work } from './load.ts'
import { UsageError } from './exit.ts'
import { openExport } from './open.ts'
import { printJson } from './print.ts'
import { flag, optional, required, sizeOf } from './options.ts'

/** The kinds of work, by their names in fio: percent of reads, and the order of the blocks. */
const patterns = {
  randread: { reads: 100, sequential: false },
  randwrite: { reads: 0, sequential: false },
  read: { reads: 100, sequential: true },
  write: { reads: 0, sequential: true },
  randrw: { reads: 70, sequential: false },
} as const
type Pattern = keyof typeof patterns

/** The result of one kind of work; `--json` prints an array of these. */
export interface LoadRow extends LoadResult {
  readonly pattern: string
  readonly blockSize: number
  readonly depth: number
}
export type LoadReport = readonly LoadRow[]

/** The largest `--seconds` and the largest `--timeout`. */
const secondsMax = 86_400
/** The most operations in flight: more than any server takes at once. */
const depthMax = 65_536

/** Milliseconds of work before the first row, which would measure our own compiler otherwise. */
const warmUpMs = 500

const readOnly = 'randread,read'
const all = Object.keys(patterns).join(',')

/** Adds `dst bench`: measures an export. */
export function bench(yargs: Argv): Argv {
  return yargs.command(
    'bench <uri>',
    'measure how fast an export is',
    (options) =>
      options
        .positional('uri', required('the export'))
        .option(
          'pattern',
          optional('what to do: some of randread,randwrite,read,write,randrw (all that may be)'),
        )
        .option('block-size', { string: true, default: '4K,128K,1M', describe: 'bytes' })
        .option('depth', { string: true, default: '1,32', describe: 'operations in flight' })
        .option('seconds', { number: true, default: 2, describe: 'for each kind of work' })
        .option('timeout', {
          number: true,
          default: 30,
          describe: 'seconds within which the export has to answer',
        })
        .option('write', flag('write, too: DESTROYS the data on the export'))
        .option('json', { boolean: true, default: false })
        .example('dst bench nbd://127.0.0.1/home', 'read at several block sizes and depths')
        .example(
          'dst bench --write --pattern randrw --depth 8 nbd+unix:///scratch?socket=nbd.sock',
          'read and write; the data on the export are lost',
        )
        .epilogue('Exit codes: 0 measured, 1 the export failed, 2 wrong usage.'),
    async ({ uri, pattern, blockSize, depth, seconds, timeout, write, json }) => {
      const rows = await measure(uri, {
        patterns: patternsOf(pattern ?? (write ? all : readOnly)),
        blockSizes: blockSize.split(',').map((text) => sizeOf('--block-size', text)),
        depths: depth.split(',').map(depthOf),
        seconds,
        timeout,
        write,
        tell: json ? () => undefined : tell,
      })
      if (json) printJson(rows, 0)
    },
  )
}

interface Plan {
  readonly patterns: readonly Pattern[]
  readonly blockSizes: readonly number[]
  readonly depths: readonly number[]
  readonly seconds: number
  /** Seconds until a request has to be answered. */
  readonly timeout: number
  /** True if the content of the export may be destroyed. */
  readonly write: boolean
  readonly tell: (row: LoadRow) => void
}

async function measure(text: string, plan: Plan): Promise<LoadRow[]> {
  for (const option of ['seconds', 'timeout'] as const)
    if (!(plan[option] > 0 && plan[option] <= secondsMax))
      throw new UsageError(`--${option} is a number from above 0 to ${secondsMax}`)
  if (!plan.write && plan.patterns.some((name) => patterns[name].reads < 100))
    throw new UsageError('writing destroys the data on the export: --write allows it')
  const device = await openExport(text, plan.timeout * 1000)
  try {
    const writes = plan.patterns.filter((name) => patterns[name].reads < 100)
    if (device.facts!.readOnly && writes.length > 0)
      throw new UsageError(`the export can only be read: leave --write out, or use --pattern read`)
    for (const bytes of plan.blockSizes) mustFit(bytes, device.facts!)
    await warmUp(device, plan)
    const rows: LoadRow[] = []
    for (const pattern of plan.patterns)
      for (const blockSize of plan.blockSizes)
        for (const depth of plan.depths) {
          const work: Work = { ...patterns[pattern], blockSize, depth }
          const load = new Load(device, work, systemClock, systemRandom)
          const row = { pattern, blockSize, depth, ...(await load.run(plan.seconds * 1000)) }
          plan.tell(row)
          rows.push(row)
        }
    return rows
  } finally {
    await device.close()
  }
}

/** Does the first row's work for a moment, without counting it. */
async function warmUp(device: Device, plan: Plan): Promise<void> {
  const [pattern] = plan.patterns
  const [blockSize] = plan.blockSizes
  const [depth] = plan.depths
  const work: Work = { ...patterns[pattern!], blockSize: blockSize!, depth: depth! }
  const milliseconds = Math.min(plan.seconds * 1000, warmUpMs)
  await new Load(device, work, systemClock, systemRandom).run(milliseconds)
}

/** Throws before anything is measured if the export cannot take blocks of that size. */
function mustFit(bytes: number, { size, blockSize, payloadMax }: Facts): void {
  const most = Math.min(size, payloadMax)
  if (bytes <= most && bytes % blockSize === 0) return
  throw new UsageError(
    `--block-size ${formatSize(bytes)}: the export takes multiples of ${formatSize(blockSize)}` +
      ` up to ${formatSize(most)}`,
  )
}

function tell({ pattern, blockSize, depth, operations, bytes, seconds, latency }: LoadRow): void {
  const work = `${pattern} ${formatSize(blockSize)} ×${depth}`
  const micro = (nanoseconds: number): string => (nanoseconds / 1000).toFixed(0)
  const { p50, p99, p999 } = latency
  process.stdout.write(
    `${work.padEnd(20)} ${(operations / seconds).toFixed(0).padStart(8)} op/s` +
      ` ${describeSize(bytes / seconds).padStart(12)}/s` +
      `   latency µs: ${micro(p50)} (median) ${micro(p99)} (99 %) ${micro(p999)} (99.9 %)\n`,
  )
}

function patternsOf(text: string): Pattern[] {
  return text.split(',').map((name) => {
    if (Object.hasOwn(patterns, name)) return name as Pattern
    throw new UsageError(`not a pattern: ${name}; known are ${all}`)
  })
}

function depthOf(text: string): number {
  const depth = Number(text)
  if (!Number.isInteger(depth) || depth < 1 || depth > depthMax)
    throw new UsageError(`not a depth: ${text}`)
  return depth
}
