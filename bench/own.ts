import { execFile } from 'node:child_process'
import { join } from 'node:path'
import type { LoadReport } from '../src/cli/bench.ts'
import type { Client, Seen } from './fio.ts'
import type { Work } from './work.ts'

const main = join(import.meta.dirname, '../src/cli/main.js')

/** `dst bench`, in a process of its own: for DST/1, and for NBD where fio is missing. */
export const ownClient: Client = {
  drive: async (uris, work, seconds) => {
    const seen: (Seen | Error)[] = []
    for (const uri of uris)
      seen.push(await driveOne(uri, work, seconds).catch((error: unknown) => errorOf(error)))
    return seen
  },
}

/** Writes a volume once and does each work for `seconds`: for a server that no volley reaches. */
export async function warmUpDst(
  uri: string,
  works: readonly Work[],
  seconds: number,
): Promise<void> {
  await run([uri, '--fill', '--write'])
  for (const work of works) await driveOne(uri, work, seconds)
}

async function driveOne(uri: string, work: Work, seconds: number): Promise<Seen> {
  const [row] = await run([
    uri,
    '--write',
    ...['--pattern', work.pattern],
    ...['--block-size', String(work.blockSize)],
    ...['--depth', String(work.depth)],
    ...['--seconds', String(seconds)],
  ])
  const { operations, bytes, seconds: spent, latency } = row!
  return { operations, bytes, seconds: spent, ...latency }
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

function run(parameters: readonly string[]): Promise<LoadReport> {
  return new Promise((resolve, reject) => {
    const words = [main, 'bench', '--json', ...parameters]
    execFile(process.execPath, words, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as LoadReport)
      else reject(new Error(`dst bench: ${error.message} ${stderr}`))
    })
  })
}
