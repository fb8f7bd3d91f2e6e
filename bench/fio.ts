import { execFile } from 'node:child_process'
import { findProgram } from './process.ts'
import { mixedReads, type Work } from './work.ts'

/** What a client saw of one round. Latencies in nanoseconds. */
export interface Seen {
  readonly operations: number
  readonly bytes: number
  readonly seconds: number
  readonly p50: number | null
  readonly p99: number | null
  readonly p999: number | null
}

/** The part of fio's `--output-format=json` that is used here; see HOWTO, "JSON output". */
interface FioSide {
  readonly total_ios: number
  readonly io_bytes: number
  readonly runtime: number
  readonly clat_ns?: { readonly percentile?: Readonly<Record<string, number>> }
}

interface FioReport {
  readonly jobs: readonly { readonly error: number; read: FioSide; write: FioSide }[]
}

/** Whether fio is here and was built with its NBD client. */
export async function fioSpeaksNbd(): Promise<boolean> {
  if (findProgram('fio') === null) return false
  return (await run(['--enghelp'])).includes('nbd')
}

/** Drives servers; runs in processes of its own. */
export interface Client {
  /** Writes the whole volume once. */
  fill(uri: string): Promise<void>
  /** Does `work` over and over for `seconds`. Rejects when the server fails a request. */
  drive(uri: string, work: Work, seconds: number): Promise<Seen>
}

export const fio: Client = { fill: fillWithFio, drive: runFio }

async function fillWithFio(uri: string): Promise<void> {
  readReport(
    await run([
      '--name=fill',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=write',
      '--bs=1M',
      '--iodepth=4',
      '--output-format=json',
    ]),
  )
}

async function runFio(uri: string, work: Work, seconds: number): Promise<Seen> {
  const { connections = 1 } = work
  const output = await run([
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${uri}`,
    `--rw=${work.pattern}`,
    ...(work.pattern === 'randrw' ? [`--rwmixread=${mixedReads}`] : []),
    `--bs=${work.blockSize}`,
    `--iodepth=${work.depth}`,
    `--runtime=${Math.round(seconds * 1000)}ms`,
    '--time_based',
    // One pattern of bytes, made once: what fio does with its buffers is not what is measured.
    '--refill_buffers=0',
    '--randrepeat=0',
    '--norandommap',
    ...(connections === 1 ? [] : ['--thread', '--group_reporting', `--numjobs=${connections}`]),
    '--output-format=json',
  ])
  return readReport(output)
}

/** Takes the sum of both directions; percentiles are those of the direction that did more. */
export function readReport(output: string): Seen {
  const { jobs } = JSON.parse(output.slice(output.indexOf('{'))) as FioReport
  const [job] = jobs
  if (job === undefined || job.error !== 0) throw new Error(`fio failed: ${output}`)
  const { read, write } = job
  const percentile = (read.total_ios >= write.total_ios ? read : write).clat_ns?.percentile
  return {
    operations: read.total_ios + write.total_ios,
    bytes: read.io_bytes + write.io_bytes,
    seconds: Math.max(read.runtime, write.runtime) / 1000,
    p50: percentile?.['50.000000'] ?? null,
    p99: percentile?.['99.000000'] ?? null,
    p999: percentile?.['99.900000'] ?? null,
  }
}

function run(parameters: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('fio', parameters, { maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`fio: ${error.message} ${stderr} ${stdout.slice(0, 2000)}`))
    })
  })
}
