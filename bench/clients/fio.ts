import { runProgram } from '../servers/process.ts'
import type { Client, Seen, Work } from './work.ts'

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
  return (await runProgram('fio', ['--enghelp'], graceSeconds)).stdout.includes('nbd')
}

/** Seconds that fio may take beyond its work: for starting, connecting and its report. */
const graceSeconds = 60

/** One process for all servers: fio needs longer to start than a short measurement takes. */
export const fio: Client = {
  drive: async (uris, work, seconds) => {
    const words = [...shared(work, seconds), ...uris.flatMap(jobFor)]
    const patience = uris.length * seconds + graceSeconds
    const { stdout, failure } = await runProgram('fio', words, patience)
    // A job that failed is told by the report, beside those that did not.
    if (failure === null || stdout.includes('"jobs"')) return readReport(stdout, uris.length)
    throw new Error(`fio: ${failure} ${stdout.slice(0, 2000)}`)
  },
}

/** What all jobs have in common. */
function shared({ pattern, blockSize, depth, connections = 1 }: Work, seconds: number): string[] {
  return [
    '--ioengine=nbd',
    `--rw=${pattern}`,
    `--bs=${blockSize}`,
    `--iodepth=${depth}`,
    `--runtime=${Math.round(seconds * 1000)}ms`,
    '--time_based',
    // One pattern of bytes, made once: what fio does with its buffers is not what is measured.
    '--refill_buffers=0',
    '--randrepeat=0',
    '--norandommap',
    ...(connections === 1 ? [] : ['--thread', `--numjobs=${connections}`]),
    '--group_reporting',
    '--output-format=json',
  ]
}

/** One job a server; each waits for the end of the one before. */
function jobFor(uri: string, at: number): string[] {
  return [`--name=job${at}`, '--stonewall', '--new_group', `--uri=${uri}`]
}

/**
 * For each job the sum of both directions; percentiles are those of the direction that did more.
 * Throws when the report is not of so many jobs.
 */
export function readReport(output: string, count: number): (Seen | Error)[] {
  const { jobs } = JSON.parse(output.slice(output.indexOf('{\n'))) as FioReport
  if (jobs.length !== count) throw new Error(`fio failed: ${output.slice(0, 2000)}`)
  return jobs.map((job) => {
    if (job.error !== 0) return new Error(`fio failed with error ${job.error}`)
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
  })
}
