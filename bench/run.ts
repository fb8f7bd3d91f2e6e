import { MiB } from '../src/base/size.ts'
import type { Client, Seen } from './fio.ts'
import { warmUpDst } from './own.ts'
import type { Progress } from './progress.ts'
import type { Running } from './servers.ts'
import { Volley } from './volley.ts'
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
  /** How many servers there are at most. */
  readonly servers: number
  readonly pace: Pace
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
  /** Seconds in which the last round has to end; two rounds are always run. */
  readonly budget: number
}

const roundsMin = 2
/** Seconds that a server needs to start and to be filled, and a client to start, roughly. */
const startSeconds = 0.7
const clientSeconds = 0.5

/** Seconds of one round, roughly. */
function roundSeconds({ servers, works, client, pace }: Bout): number {
  const clients = client === 'fio' ? 1 : servers
  return (
    servers * (startSeconds + pace.warmUp) +
    works.length * (clients * clientSeconds + servers * pace.seconds)
  )
}

export function secondsOf(bout: Bout): number {
  return Math.min(bout.pace.budget, bout.pace.rounds * roundSeconds(bout))
}

/**
 * Runs a bout: in each round all servers are new processes, and for each work they take turns in
 * rotating order, A B C, B C A, …, so that what else the machine does hits them alike; backwards in
 * every other round, so that none always meets what the same one has left behind.
 */
export async function runBout(bout: Bout, progress: Progress, client: Client): Promise<Row[]> {
  const rows = new Map<string, Row>()
  if (bout.works.length === 0 || bout.servers === 0) return []
  const { rounds, budget } = bout.pace
  const planned = secondsOf(bout)
  const began = performance.now()
  for (let round = 0; round < rounds; round++) {
    const spent = (performance.now() - began) / 1000
    if (round >= roundsMin && spent * (1 + 1 / round) > budget) break
    // Whatever ends first: the rounds, or the time for them.
    const share = Math.max(round / rounds, spent / budget)
    const tell = (what: string): void =>
      progress.at(`${bout.suite}: ${what} (${bout.setting})`, share * planned)
    tell('starting servers')
    const servers = await bout.start()
    try {
      for (const running of servers) await warmUp(running, bout)
      for (const [turn, work] of bout.works.entries()) {
        tell(nameOf(work))
        const order = servers.map((_, at) => servers[(at + round + turn) % servers.length]!)
        if (round % 2 === 1) order.reverse()
        await measure(bout, order, work, client, round, rows)
      }
    } finally {
      await Promise.all(servers.map((running) => running.stop()))
    }
  }
  return [...rows.values()]
}

/** Fills the volume, so that reads are of memory that is there, then a while of everything. */
async function warmUp({ server, uri }: Running, { works, omit, fill, pace }: Bout): Promise<void> {
  if (pace.warmUp === 0) return
  const each = pace.warmUp / works.length
  try {
    if (server.protocol === 'dst') {
      await warmUpDst(uri, works, each)
      return
    }
    const volley = await Volley.connect(uri)
    try {
      if (fill) await volley.fill()
      for (const work of works) await volley.run(calm(work), each * 1000)
    } finally {
      volley.close()
    }
  } catch (error) {
    omit(`warming up ${server.name}`, error)
  }
}

/** What a volley can do of it: no mixture, no more in flight than makes a short volley. */
function calm(work: Work): Work {
  const pattern = work.pattern === 'randrw' ? 'randread' : work.pattern
  return {
    ...work,
    pattern,
    depth: Math.min(work.depth, Math.max(1, volleyBytes / work.blockSize)),
  }
}

const volleyBytes = 4 * MiB

async function measure(
  bout: Bout,
  servers: readonly Running[],
  work: Work,
  client: Client,
  round: number,
  rows: Map<string, Row>,
): Promise<void> {
  const before = servers.map((running) => running.usage())
  let seen: (Seen | Error)[]
  try {
    seen = await client.drive(
      servers.map(({ uri }) => uri),
      work,
      bout.pace.seconds,
    )
  } catch (error) {
    seen = servers.map(() => (error instanceof Error ? error : new Error(String(error))))
  }
  for (const [at, running] of servers.entries()) {
    const { name } = running.server
    const one = seen[at]!
    const after = running.usage()
    if (one instanceof Error) bout.omit(`${nameOf(work)}, ${name}`, one)
    else {
      const { peakBytes } = after
      const cpu = running.cpuBetween(before[at]!, after)
      rowFor(rows, bout, name, work).rounds.push({ round, ...one, cpu, peakBytes })
    }
  }
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
