import { MiB } from '../../src/base/size.ts'
import type { Usage } from '../servers/proc.ts'
import { messageOf } from './suites.ts'
import type { Client, Meter, Seen } from '../clients/fio.ts'
import { fillVolume, warmUpVolume } from '../clients/own.ts'
import type { Progress } from './progress.ts'
import type { Running } from '../servers/servers.ts'
import { Volley } from '../clients/volley.ts'
import { nameOf, type Round, type Work } from '../clients/work.ts'

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
const clientSeconds = { fio: 0.5, own: 1 } as const

/** Seconds of one round, roughly. */
function roundSeconds({ servers, works, client, pace }: Bout): number {
  const clients = client === 'fio' ? 1 : servers
  return (
    servers * (startSeconds + pace.warmUp) +
    works.length * (clients * clientSeconds[client] + servers * pace.seconds)
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
  const rows = new Rows(bout)
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
    const running = new Set(servers)
    try {
      for (const server of servers) await prepare(server, bout, rows, running)
      for (const [turn, work] of bout.works.entries()) {
        tell(nameOf(work))
        const order = servers
          .map((_, at) => servers[(at + round + turn) % servers.length]!)
          .filter((one) => running.has(one) && does(one, work) && !rows.hasFailed(one, work))
        if (round % 2 === 1) order.reverse()
        await measure(bout, order, work, client, round, rows, running)
      }
    } finally {
      await Promise.all(servers.map((one) => one.stop()))
    }
  }
  return rows.finished()
}

/** The rows of a bout. */
class Rows {
  private readonly bout: Bout
  private readonly rows = new Map<string, Row>()
  /** By server: what went wrong first. */
  private readonly failures = new Map<string, string>()

  constructor(bout: Bout) {
    this.bout = bout
  }

  add({ server }: Running, work: Work, round: Round): void {
    this.rowOf(server.name, work).rounds.push(round)
  }

  /** No figure of this work is believed any more, also of other rounds. */
  fail({ server }: Running, work: Work, why: string): void {
    this.rowOf(server.name, work).failed ??= why
    this.note(server.name, why)
    this.bout.omit(`${nameOf(work)}, ${server.name}`, `failed: ${why}`)
  }

  /** What keeps a server from being measured at all in this round. */
  note(server: string, why: string): void {
    if (!this.failures.has(server)) this.failures.set(server, why)
  }

  hasFailed({ server }: Running, work: Work): boolean {
    return this.rowOf(server.name, work).failed !== undefined
  }

  /** What failed has no rounds; a server that never got as far as a work has failed it as well. */
  finished(): Row[] {
    for (const row of this.rows.values()) {
      if (row.rounds.length === 0) row.failed ??= this.failures.get(row.server) ?? 'not measured'
      if (row.failed !== undefined) row.rounds.length = 0
    }
    return [...this.rows.values()]
  }

  private rowOf(server: string, work: Work): Row {
    const key = `${server} ${nameOf(work)}`
    let row = this.rows.get(key)
    if (row === undefined) {
      const { suite, setting } = this.bout
      row = { suite, setting, server, work, rounds: [] }
      this.rows.set(key, row)
    }
    return row
  }
}

/**
 * Fills the volume, so that reads are of memory that is there, then a while of everything. Who
 * cannot be filled has failed everything: nothing is measured on a volume that is not there.
 */
async function prepare(
  server: Running,
  bout: Bout,
  rows: Rows,
  running: Set<Running>,
): Promise<void> {
  const { name } = server.server
  try {
    if (bout.fill) await fillVolume(server.uri)
  } catch (error) {
    const why = `filling its volume: ${reasonOf(server, error)}`
    for (const work of bout.works) if (does(server, work)) rows.fail(server, work, why)
    running.delete(server)
    return
  }
  try {
    await warmUp(server, bout)
  } catch (error) {
    const why = `warming up: ${reasonOf(server, error)}`
    rows.note(name, why)
    bout.omit(`${name}, in one round`, why)
    running.delete(server)
  }
}

async function warmUp(running: Running, bout: Bout): Promise<void> {
  const { uri } = running
  const { warmUp: seconds } = bout.pace
  if (seconds === 0) return
  const each = seconds / bout.works.length
  const works = bout.works.filter((work) => does(running, work))
  // The same for all sides: those who speak DST/1 have no volleys.
  if (bout.client === 'own') {
    await warmUpVolume(uri, works, each)
    return
  }
  const volley = await Volley.connect(uri)
  try {
    for (const work of works) await volley.run(calm(work), each * 1000)
  } finally {
    volley.close()
  }
}

function does({ server }: Running, work: Work): boolean {
  return server.measures?.(work) ?? true
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

/** Who fails is not measured any more in this round: it may be frozen, and others would wait. */
async function measure(
  bout: Bout,
  servers: readonly Running[],
  work: Work,
  client: Client,
  round: number,
  rows: Rows,
  running: Set<Running>,
): Promise<void> {
  if (servers.length === 0) return
  const before: Usage[] = []
  const after: Usage[] = []
  const meter: Meter = {
    begin: (at) => (before[at] = servers[at]!.usage()),
    end: (at) => (after[at] = servers[at]!.usage()),
  }
  const uris = servers.map(({ uri }) => uri)
  let seen: (Seen | Error)[]
  try {
    seen = await client.drive(uris, work, bout.pace.seconds, meter)
  } catch (error) {
    // Whose fault it was shows when each is driven by itself.
    if (servers.length > 1) {
      for (const one of servers) await measure(bout, [one], work, client, round, rows, running)
      return
    }
    seen = [error instanceof Error ? error : new Error(String(error))]
  }
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
    if (cpu > 0) rows.add(one, work, { round, ...result, cpu, peakBytes })
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
