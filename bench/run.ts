import type { Client } from './fio.ts'
import type { Progress } from './progress.ts'
import type { Running } from './servers.ts'
import { nameOf, type Round, type Work } from './work.ts'

/** One work against one server: a line of the report. */
export interface Row {
  /** What the rows that belong together have in common: `peers`, `matrix`, … */
  readonly suite: string
  /** `memory over unix`: rows are compared within the same setting. */
  readonly setting: string
  readonly server: string
  readonly work: Work
  readonly rounds: Round[]
}

/** Servers that take turns, and what each of them does. */
export interface Bout {
  readonly suite: string
  readonly setting: string
  readonly works: readonly Work[]
  /** Whether the volume is written in full before: without, reads are of what was never written. */
  readonly fill: boolean
  /** Who drives them; our own client speaks DST/1 as well. */
  readonly client: 'fio' | 'own'
  /** Starts them all anew; a round is at most as similar to the next as two processes are. */
  readonly start: () => Promise<readonly Running[]>
  /** What could not be measured. */
  readonly omit: (what: string, error: unknown) => void
}

export interface Pace {
  readonly rounds: number
  /** Seconds of each measurement. */
  readonly seconds: number
  /** Seconds of unmeasured work for every new process: compilers and caches get warm. */
  readonly warmUp: number
}

export function stepsOf(bout: Bout, pace: Pace): number {
  return pace.rounds * (bout.works.length + 1)
}

/**
 * Runs a bout: in each round all servers are new processes, and for each work they take turns in
 * rotating order, A B C, B C A, …, so that what else the machine does hits them alike.
 */
export async function runBout(
  bout: Bout,
  pace: Pace,
  progress: Progress,
  client: Client,
): Promise<Row[]> {
  const rows = new Map<string, Row>()
  for (let round = 0; round < pace.rounds; round++) {
    progress.step(`${bout.suite}: starting servers (${bout.setting})`)
    const servers = await bout.start()
    try {
      for (const running of servers) await warmUp(running, bout, pace.warmUp, client)
      for (const [turn, work] of bout.works.entries()) {
        progress.step(`${bout.suite}: ${nameOf(work)} (${bout.setting})`)
        for (let n = 0; n < servers.length; n++) {
          const running = servers[(n + round + turn) % servers.length]!
          const { name } = running.server
          try {
            const seen = await measure(running, work, pace.seconds, client)
            rowFor(rows, bout, name, work).rounds.push(seen)
          } catch (error) {
            bout.omit(`${nameOf(work)}, ${name}`, error)
          }
        }
      }
    } finally {
      await Promise.all(servers.map((running) => running.stop()))
    }
  }
  return [...rows.values()]
}

/** Fills the volume, so that reads are of memory that is there, then a while of everything. */
async function warmUp(
  running: Running,
  { works, omit, fill }: Bout,
  seconds: number,
  client: Client,
): Promise<void> {
  if (seconds === 0) return
  try {
    if (fill) await client.fill(running.uri)
    for (const work of works) await client.drive(running.uri, work, seconds / works.length)
  } catch (error) {
    omit(`warming up ${running.server.name}`, error)
  }
}

async function measure(
  running: Running,
  work: Work,
  seconds: number,
  client: Client,
): Promise<Round> {
  const before = running.usage()
  const seen = await client.drive(running.uri, work, seconds)
  const after = running.usage()
  return { ...seen, cpu: after.cpuNanoseconds - before.cpuNanoseconds, peakBytes: after.peakBytes }
}

function rowFor(rows: Map<string, Row>, bout: Bout, server: string, work: Work): Row {
  const key = `${server} ${nameOf(work)}`
  let row = rows.get(key)
  if (row === undefined) {
    row = { suite: bout.suite, setting: bout.setting, server, work, rounds: [] }
    rows.set(key, row)
  }
  return row
}
