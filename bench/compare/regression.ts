import { KiB, MiB } from '../../src/base/size.ts'
import { onOneProcessor } from '../servers/affinity.ts'
import { tell } from '../run/progress.ts'
import type { Row } from '../run/run.ts'
import { pump, Running, type Media, type Server, type Volume } from '../servers/servers.ts'
import { messageOf } from '../servers/process.ts'
import { omit, otherServer, type Plan } from '../run/suites.ts'
import {
  bridgeTree,
  leafTree,
  mirrorTree,
  target,
  type TargetOptions,
  type Tree,
} from '../servers/trees.ts'
import { prepareVolume } from '../clients/own.ts'
import { Volley } from '../clients/volley.ts'
import { nameOf, type Round, type Work } from '../clients/work.ts'

/** The suite whose rows `--compare` and `--against` judge by. */
export const regressionSuite = 'regression'

/** Small enough for the processor's cache: how far memory is, and for whom, is no news of ours. */
const volumeBytes = 4 * MiB
/** Milliseconds of each slice, and slices of each work in a round. */
const sliceMilliseconds = 15
const slices = 10
/** Milliseconds for which each new process does each work before it is measured: for compiling. */
const warmUpMilliseconds = 300
/** Seconds of all rounds. */
const seconds = 45
/** Fewer rounds than this say nothing: for them a run may take so many times as long. */
export const roundsMin = 4
const overtime = 4

/**
 * Which of a round's slices counts, from the cheapest: what else the machine does makes slices
 * dearer, never cheaper, so the cheap ones of two runs are alike where their averages are not. Not
 * the cheapest, which may be luck.
 */
const sliceCounted = 1

interface Case {
  readonly tree: Tree
  readonly media: Media
  readonly works: readonly Work[]
}

const small: Work = { pattern: 'randread', blockSize: 4 * KiB, depth: 32 }
const smallWrite: Work = { pattern: 'randwrite', blockSize: 4 * KiB, depth: 32 }
const single: Work = { pattern: 'randread', blockSize: 4 * KiB, depth: 1 }
const large: Work = { pattern: 'read', blockSize: 128 * KiB, depth: 8 }
const largeWrite: Work = { pattern: 'write', blockSize: 128 * KiB, depth: 8 }

const allWorks = [small, smallWrite, single, large, largeWrite]

const cases: readonly Case[] = [
  { tree: leafTree, media: 'memory', works: allWorks },
  { tree: leafTree, media: 'file', works: [small] },
  { tree: mirrorTree, media: 'memory', works: [smallWrite, largeWrite] },
  {
    tree: bridgeTree(target(leafTree, { protocol: 'dst' })),
    media: 'memory',
    works: [small, largeWrite],
  },
]

function settingOf({ tree, media }: Case): string {
  return `${tree.name}, ${media}`
}

/** By what rows of two reports are known to be the same. */
export function comparedKey({ setting, work }: Pick<Row, 'setting' | 'work'>): string {
  return `${setting}: ${nameOf(work)}`
}

/** Those of all rows that a run measures. */
export function regressionKeys(): string[] {
  return cases.flatMap((one) =>
    one.works.map((work) => comparedKey({ setting: settingOf(one), work })),
  )
}

/** A server that runs, what it is asked to do, and what each slice of that cost. */
interface Cell {
  /** Null for the pump, whose slices stand beside those of every case. */
  readonly of: Case | null
  readonly work: Work
  readonly running: Running
  readonly client: Volley
  readonly slices: Round[]
}

/** What the report says where `taskset` cannot keep all on one processor. */
const noisier = 'not on one processor, for want of taskset: these figures are noisier'
export const notPlaced = `${regressionSuite}: ${noisier}`

/**
 * What our target costs for each operation, beside the pump, in short slices in turn, until the
 * time is over: each round with new processes, driven by volleys, all on one processor.
 */
export function measureRegression(plan: Plan): Promise<Row[]> {
  return onOneProcessor(
    () => runRounds(plan),
    () => omit(plan, notPlaced),
  )
}

async function runRounds(plan: Plan): Promise<Row[]> {
  const rows = new Map<string, Row>()
  const began = performance.now()
  for (let round = 0; ; round++) {
    const spent = (performance.now() - began) / 1000
    const allowed = round < roundsMin ? seconds * overtime : seconds
    if (round > 0 && spent * (1 + 1 / round) > allowed) break
    tell(`${regressionSuite}: round ${round + 1}`)
    await runRound(plan, round, rows)
  }
  return [...rows.values()]
}

async function runRound(plan: Plan, round: number, rows: Map<string, Row>): Promise<void> {
  const servers: Running[] = []
  const cells: Cell[] = []
  try {
    for (const [of, server] of serversOf(plan, round)) {
      const { media } = of ?? { media: 'memory' }
      const volume: Volume = { media, transport: 'unix', size: volumeBytes }
      const running = await Running.start(server, volume, plan.folders)
      servers.push(running)
      await prepareVolume(running.uri, [], 0)
      const client = await Volley.connect(running.uri)
      for (const work of of?.works ?? allWorks)
        cells.push({ of, work, running, client, slices: [] })
    }
    for (const { client, work } of cells) await client.run(work, warmUpMilliseconds)
    for (let slice = 0; slice < slices; slice++) {
      // Forwards and backwards: what comes before a cell is not always the same.
      const order = slice % 2 === 0 ? cells : [...cells].reverse()
      for (const cell of order) cell.slices.push(await measureSlice(cell, round))
    }
    collect(cells, rows)
  } catch (error) {
    omit(plan, `${regressionSuite}: ${messageOf(error)}`)
  } finally {
    for (const { client } of cells) client.close()
    await Promise.all(servers.map((one) => one.stop()))
  }
}

/** In the order in which they start; the pump stands beside every case. */
function serversOf(plan: Plan, round: number): (readonly [Case | null, Server])[] {
  const ours = cases.flatMap((one) =>
    versionsOf(plan, round).map((options) => [one, target(one.tree, options)] as const),
  )
  return [[null, pump], ...ours]
}

/**
 * Ours, and the other version if there is one. Each is the first to start in every other round:
 * what is started later finds the machine in another state.
 */
export function versionsOf(
  { against, slowdown = 0 }: Pick<Plan, 'against' | 'slowdown'>,
  round: number,
): TargetOptions[] {
  const own = { slowdown }
  if (against === null) return [own]
  const both = [own, { name: otherServer, root: against }]
  return round % 2 === 0 ? both : both.reverse()
}

async function measureSlice({ client, running, work }: Cell, round: number): Promise<Round> {
  const began = performance.now()
  const before = running.usage()
  const operations = await client.run(work, sliceMilliseconds)
  const after = running.usage()
  if (running.failure !== null) throw new Error(`${running.server.name}: ${running.failure}`)
  return {
    round,
    operations,
    bytes: operations * work.blockSize,
    seconds: (performance.now() - began) / 1000,
    p50: null,
    p99: null,
    p999: null,
    cpu: running.cpuBetween(before, after),
    peakBytes: after.peakBytes,
  }
}

/** One more round for every row: the pump's beside each case. */
function collect(cells: readonly Cell[], rows: Map<string, Row>): void {
  for (const { running, of, work, slices } of cells) {
    const server = running.server.name
    const sorted = [...slices].sort((a, b) => a.cpu / a.operations - b.cpu / b.operations)
    const round = sorted[sliceCounted]!
    const beside = of === null ? cases.filter(({ works }) => works.includes(work)) : [of]
    for (const one of beside) {
      const setting = settingOf(one)
      const key = `${setting} ${server} ${nameOf(work)}`
      const row = rows.get(key) ?? { suite: regressionSuite, setting, server, work, rounds: [] }
      rows.set(key, row)
      row.rounds.push(round)
    }
  }
}
