import { errorOf, prepareVolume } from '../clients/own.ts'
import { nameOf, type Client, type Round, type Seen, type Work } from '../clients/work.ts'
import { messageOf } from '../servers/process.ts'
import type { Running } from '../servers/servers.ts'
import { tell } from './progress.ts'

/** One work against one server: a line of the report. */
export interface Row {
  /** What the rows that belong together have in common: `peers`, `matrix`, … */
  readonly suite: string
  /** `memory over unix`: rows are compared within the same setting. */
  readonly setting: string
  readonly server: string
  readonly work: Work
  /** None when it failed. */
  readonly rounds: Round[]
  /** Why it could not be measured: a server that dies or fails has no figures, only this. */
  failed?: string
}

/** Servers that take turns, and what each of them does. */
export interface Bout {
  readonly suite: string
  readonly setting: string
  readonly works: readonly Work[]
  /** Who has to drive them; null for whoever drives NBD. */
  readonly client: Client | null
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

/**
 * Runs a bout: in each round all servers are new processes, and for each work they take turns in
 * rotating order, A B C, B C A, …, so that what else the machine does hits them alike; backwards in
 * every other round, so that none always meets what the same one has left behind.
 */
export async function runBout(bout: Bout, usual: Client): Promise<Row[]> {
  if (bout.works.length === 0 || bout.servers === 0) return []
  const { rounds, budget } = bout.pace
  const client = bout.client ?? usual
  const rows = new Rows(bout)
  const began = performance.now()
  for (let round = 0; round < rounds; round++) {
    const spent = (performance.now() - began) / 1000
    if (round >= roundsMin && spent * (1 + 1 / round) > budget) break
    const name = `${bout.suite}, ${bout.setting}, round ${round + 1} of ${rounds}`
    tell(`${name}: starting servers`)
    const servers = await bout.start()
    try {
      await runRound({ bout, client, round, name, rows, running: new Set(servers) }, servers)
    } finally {
      await Promise.all(servers.map((one) => one.stop()))
    }
  }
  return rows.finished()
}

/** A round, and whoever has not failed in it. */
interface Moment {
  readonly bout: Bout
  readonly client: Client
  readonly round: number
  readonly name: string
  readonly rows: Rows
  readonly running: Set<Running>
}

async function runRound(moment: Moment, servers: readonly Running[]): Promise<void> {
  const { bout, round, name, rows, running } = moment
  for (const server of servers) await prepare(moment, server)
  for (const [turn, work] of bout.works.entries()) {
    tell(`${name}: ${nameOf(work)}`)
    const order = servers
      .map((_, at) => servers[(at + round + turn) % servers.length]!)
      .filter((one) => running.has(one) && !rows.hasFailed(one, work))
    if (round % 2 === 1) order.reverse()
    if (order.length > 0) await measure(moment, order, work)
  }
}

/** The rows of a bout. */
class Rows {
  private readonly bout: Bout
  private readonly rows = new Map<string, Row>()

  constructor(bout: Bout) {
    this.bout = bout
  }

  rowOf({ server }: Running, work: Work): Row {
    const key = `${server.name} ${nameOf(work)}`
    const { suite, setting } = this.bout
    const row = this.rows.get(key) ?? { suite, setting, server: server.name, work, rounds: [] }
    this.rows.set(key, row)
    return row
  }

  hasFailed(running: Running, work: Work): boolean {
    return this.rowOf(running, work).failed !== undefined
  }

  /** No figure of this work is believed any more, also of other rounds. */
  fail(running: Running, work: Work, why: string): void {
    this.rowOf(running, work).failed ??= why
    this.bout.omit(`${nameOf(work)}, ${running.server.name}`, `failed: ${why}`)
  }

  finished(): Row[] {
    for (const row of this.rows.values()) if (row.failed !== undefined) row.rounds.length = 0
    return [...this.rows.values()]
  }
}

/**
 * Fills the volume, so that reads are of memory that is there, then a while of everything. Who
 * fails that has failed everything: nothing is measured on a volume that is not there.
 */
async function prepare({ bout, rows, running }: Moment, server: Running): Promise<void> {
  const { works } = bout
  try {
    await prepareVolume(server.uri, works, bout.pace.warmUp / works.length)
  } catch (error) {
    const why = `filling and warming up: ${reasonOf(server, error)}`
    for (const work of works) rows.fail(server, work, why)
    running.delete(server)
  }
}

/** Who fails is not measured any more in this round: it may be frozen, and others would wait. */
async function measure(moment: Moment, servers: readonly Running[], work: Work): Promise<void> {
  const { bout, client, round, rows, running } = moment
  const before = servers.map((one) => one.usage())
  const uris = servers.map(({ uri }) => uri)
  let seen: (Seen | Error)[]
  try {
    seen = await client.drive(uris, work, bout.pace.seconds)
  } catch (error) {
    // Whose fault it was shows when each is driven by itself.
    if (servers.length > 1) {
      for (const one of servers) await measure(moment, [one], work)
      return
    }
    seen = [errorOf(error)]
  }
  const after = servers.map((one) => one.usage())
  for (const [at, one] of servers.entries()) {
    const result = seen[at]!
    const why = failureOf(one, result)
    if (why !== null || result instanceof Error) {
      rows.fail(one, work, why ?? 'failed')
      running.delete(one)
      continue
    }
    const { peakBytes } = after[at]!
    const cpu = one.cpuBetween(before[at]!, after[at]!)
    // Ticks of 10 ms may not see a short while, and nothing can be divided by nothing.
    if (cpu > 0) rows.rowOf(one, work).rounds.push({ round, ...result, cpu, peakBytes })
    else rows.fail(one, work, 'no processor time was seen: measure for longer')
  }
}

/** Why nothing that was seen of a server counts; null when it does. */
function failureOf(server: Running, seen: Seen | Error): string | null {
  if (seen instanceof Error) return reasonOf(server, seen)
  return server.failure ?? (seen.operations > 0 ? null : 'not one operation was done in time')
}

/** A server that has ended is a better reason than what its client says of it. */
function reasonOf(server: Running, error: unknown): string {
  return server.failure ?? messageOf(error)
}
