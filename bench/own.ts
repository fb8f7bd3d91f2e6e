import { execFile } from 'node:child_process'
import { join } from 'node:path'
import type { LoadReport } from '../src/cli/bench.ts'
import type { Client } from './fio.ts'
import type { Work } from './work.ts'

const main = join(import.meta.dirname, '../src/cli/main.js')

/** `dst bench`, in a process of its own: for DST/1, and for NBD where fio is missing. */
export const ownClient: Client = {
  fill: async (uri) => {
    await run([uri, '--fill', '--write'])
  },
  drive: async (uri, work: Work, seconds) => {
    const [row] = await run([
      uri,
      '--write',
      ...['--pattern', work.pattern],
      ...['--block-size', String(work.blockSize)],
      ...['--depth', String(work.depth)],
      ...['--seconds', String(seconds)],
    ])
    const { latency, ...seen } = row!
    return { ...seen, ...latency }
  },
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
