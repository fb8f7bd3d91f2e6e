import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { KiB, MiB, TiB, GiB } from '../src/base/size.ts'
import { isObject } from '../src/target/tree.ts'
import { bridgeName, dstFileName, type AllocationRow } from './allocation-suite.ts'
import {
  atLeast,
  atMost,
  figureCells,
  figureColumns,
  isMet,
  type Figure,
  type Goal,
} from './figures.ts'
import type { Idle } from './growth.ts'
import { formatPage } from './html.ts'
import type { Machine } from './machine.ts'
import {
  allocationPart,
  chooseClients,
  figuresPart,
  idlePart,
  partOfBout,
  planOf,
  run,
  type Part,
} from './measure.ts'
import { measureMemory, memorySeconds } from './memory-suite.ts'
import { measureMirror, mirrorSeconds } from './mirror-suite.ts'
import type { Options } from './options.ts'
import { measurePairs, smallVolume, type Side } from './pairs.ts'
import { describeSeconds, type Progress } from './progress.ts'
import { align, formatOmitted, groupRows, ourServer, ratiosOf, type Report } from './report.ts'
import type { Row } from './run.ts'
import { nbdkit, nbdkitFour, qemuNbd, type Folders, type Volume } from './servers.ts'
import { median } from './stats.ts'
import {
  boutOf,
  goalWorks,
  messageOf,
  nbdServerName,
  omit,
  protocolBouts,
  quorumBout,
  quorumSuite,
  serversOf,
  type Plan,
} from './suites.ts'
import { leafTree, mirrorTree, target } from './trees.ts'
import { nameOf, type Work } from './work.ts'

/** One run of `--goals`; the file holds all of them, oldest first. */
export interface Occasion {
  readonly started: string
  readonly seconds: number
  readonly machine: Machine
  /** The words behind `npm run bench --`; runs of older versions have not kept them. */
  readonly parameters?: readonly string[]
  readonly omitted: readonly string[]
  readonly figures: readonly Figure[]
}

/** Measures everything that has a goal, adds it to the file, and prints it beside earlier runs. */
export async function measureGoals(options: Options, folders: Folders): Promise<void> {
  const file = placeOf(options.json)
  const earlier = readOccasions(file)
  accessSync(dirname(file), constants.W_OK)
  const plan = planOf(options, folders)
  const report = await run(await goalParts(plan), plan, options)
  const { started, seconds, machine, parameters, omitted } = report
  const figures = goalFigures(report)
  const occasion = { started, seconds, machine, parameters, omitted, figures }
  const occasions = [...earlier, occasion]
  writeOccasions(file, occasions)
  const text = formatOccasions(occasions)
  writeFileSync(options.html, formatPage(report, text))
  process.stdout.write(`${text}\n`)
}

/** Earlier runs; throws an Error when the file holds something else, which is kept as it is. */
export function readOccasions(file: string): Occasion[] {
  if (!existsSync(file)) return []
  const found: unknown = JSON.parse(readFileSync(file, 'utf8'))
  const isFigure = (one: unknown): boolean => isObject(one) && Array.isArray(one['values'])
  const isOccasion = (one: unknown): boolean =>
    isObject(one) &&
    isObject(one['machine']) &&
    Array.isArray(one['figures']) &&
    one['figures'].every(isFigure)
  if (Array.isArray(found) && found.every(isOccasion)) return found as Occasion[]
  throw new Error(`${file} holds no runs of --goals: name another with --json`)
}

/** What a symbolic link stands for: a file that takes its place would not be found any more. */
function placeOf(file: string): string {
  return existsSync(file) ? realpathSync(file) : file
}

/** All of it or, on a disk that is full, nothing: the runs of other days cannot be had again. */
export function writeOccasions(file: string, occasions: readonly Occasion[]): void {
  const next = `${file}.new`
  try {
    writeFileSync(next, JSON.stringify(occasions, null, 1))
    renameSync(next, file)
  } catch (error) {
    rmSync(next, { force: true })
    throw error
  }
}

/** Warm enough for the compiler to have settled: a target runs for months. */
const pace = { rounds: 5, seconds: 0.4, warmUp: 2.4 } as const
/** Seconds after which no further round of each kind is begun. */
const budgets = { memory: 130, file: 100, quorum: 90, protocols: 70 } as const

async function goalParts(plan: Plan): Promise<Part[]> {
  const clients = await chooseClients(plan.omitted)
  const peers = serversOf(plan, leafTree, [nbdkit, nbdkitFour, qemuNbd])
  const memory = { media: 'memory', transport: 'unix' } as const
  const file = { media: 'file', transport: 'unix' } as const
  const bouts = [
    boutOf(plan, peersSuite, goalWorks, peers, memory, { ...pace, budget: budgets.memory }),
    boutOf(plan, peersSuite, fileWorks, peers, file, { ...pace, budget: budgets.file }),
    quorumBout(plan, [], { ...pace, budget: budgets.quorum }),
    ...protocolBouts(plan, ['unix'], { ...pace, rounds: 3, budget: budgets.protocols }),
  ]
  return [
    ...bouts.map((bout) => partOfBout(bout, clients)),
    allocationPart(plan, clients),
    figuresPart('memory', memorySeconds, (progress) => measureMemory(plan, clients.fio, progress)),
    figuresPart('growth', growthSeconds, (progress) => measureGrowth(plan, progress)),
    idlePart(plan),
    figuresPart('mirror', mirrorSeconds, (progress) => measureMirror(plan, progress)),
  ]
}

const peersSuite = 'peers'
const fileWorks = goalWorks.filter(
  ({ pattern, blockSize }) => blockSize > 4 * KiB || pattern === 'randread',
)

/** The most processor time for a work, as a share of nbdkit's with the volume in memory. */
export function memoryGoal({ pattern, blockSize, depth }: Work): number {
  const reads = pattern.endsWith('read')
  if (blockSize === 4 * KiB) return depth === 1 ? 1 : reads ? 0.6 : 0.8
  return reads ? 0.65 : 0.75
}

const fileGoal = 1
const qemuGoal = 0.6
const quorumGoal = 0.5
const protocolGoal = 1

/** Everything of a report that has a goal, as the tables of goals have it. */
export function goalFigures(report: Report): Figure[] {
  return [
    ...groupRows(report.rows).flatMap(figuresOfGroup),
    ...report.allocations.flatMap(allocationFigures),
    ...report.idle.map(idleFigure),
    ...report.figures,
  ]
}

function figuresOfGroup(group: readonly Row[]): Figure[] {
  const ours = group.find(({ server }) => server === ourServer)
  if (ours === undefined) return []
  return group.filter((row) => row !== ours).flatMap((peer) => figuresOfPair(ours, peer))
}

function figuresOfPair(ours: Row, peer: Row): Figure[] {
  const { work, setting } = ours
  const media = setting.split(' ')[0]!
  const [goal, rate] = goalOf(ours, peer, media)
  // Beside the one that a user gets, which the goals are about.
  const four = peer.server === nbdkitFour.name
  const against = four ? nbdkit.name : peer.server
  const suite = `${ours.suite === peersSuite ? media : ours.suite}, against ${against}`
  const ratios = ratiosOf(ours, peer)
  const name = four ? `${nameOf(work)}, against ${peer.server}` : nameOf(work)
  return [
    { suite, name: `${name}, cpu`, unit: '×', values: ratios.cpu, goal },
    { suite, name: `${name}, op/s`, unit: '×', values: ratios.rate, goal: rate },
  ]
}

/** For processor time and for throughput. */
function goalOf(ours: Row, { server }: Row, media: string): [Goal | null, Goal | null] {
  if (server === nbdkitFour.name) return [null, null]
  if (ours.suite === quorumSuite) return [atMost(quorumGoal), atLeast(1 / quorumGoal)]
  if (server === nbdServerName) return [atMost(protocolGoal), null]
  if (server === qemuNbd.name) return [atMost(qemuGoal), atLeast(1)]
  return [atMost(media === 'memory' ? memoryGoal(ours.work) : fileGoal), atLeast(1)]
}

/** The view of the bytes that a small request lends, and a share of what each turn makes. */
const objectsGoal = 1.1
/** Headers are copied into a staging block, payloads are not. */
const copiedGoal = 0.001

function allocationFigures(row: AllocationRow): Figure[] {
  const { server, work, ownObjectsPerOperation, copiedPerByte } = row
  const name = `${nameOf(work)}, ${server}`
  const small = work.blockSize <= 4 * KiB
  const objects = {
    suite: 'objects for an operation, beside those of Node itself',
    name,
    unit: '',
    values: [ownObjectsPerOperation],
    goal: small && server === ourServer ? atMost(objectsGoal) : null,
  }
  const forwards = server === bridgeName || server === dstFileName
  const copied = {
    suite: 'bytes copied in user space for a byte moved',
    name,
    unit: '',
    values: [copiedPerByte],
    goal: forwards && !small ? atMost(copiedGoal) : null,
  }
  return server === 'pump' ? [] : [objects, ...(forwards ? [copied] : [])]
}

/** Milliseconds in each second: what cannot be told from nothing on a busy machine. */
const idleGoal = 0.5

function idleFigure({ connections, cpu }: Idle): Figure {
  const name = `${connections} idle connections`
  return { suite: 'idle', name, unit: 'ms/s', values: [cpu], goal: atMost(idleGoal) }
}

const growthSeconds = 70
const growthRounds = 6
/** What the layout of memory may do to a cost that should stay the same. */
const growthGoal = 1.1
/** Small enough for the processor's cache, which is no news of ours. */
const growthBytes = 4 * MiB
/** Of a leg, when there are as many: ten times as many legs are a tenth as large each. */
const legs = [10, 100] as const
const legBytes = [2560 * KiB, 256 * KiB] as const

/** How an operation's cost differs between a little and a lot of something. */
export async function measureGrowth(plan: Plan, progress: Progress): Promise<Figure[]> {
  const reads: Work = { pattern: 'randread', blockSize: 4 * KiB, depth: 32 }
  // One after the other: no two of those under way are for the same block, however few there are.
  const writes: Work = { ...reads, pattern: 'write' }
  const volume = (size: number): Volume => ({ ...smallVolume, size })
  const exports = (count: number): Side => ({
    server: target(leafTree, { moreExports: count - 1 }),
    volume: volume(growthBytes),
  })
  const leaf = (size: number): Side => ({ server: target(leafTree), volume: volume(size) })
  const mirror = (at: 0 | 1): Side => ({
    server: target(mirrorTree(legs[at])),
    volume: volume(legBytes[at]),
  })
  const figures: Figure[] = []
  const compared = async (
    name: string,
    sides: readonly [Side, Side],
    work: Work,
    { fill = true, times = 1 },
  ): Promise<void> => {
    progress.at(`growth: ${name}`, (growthSeconds * figures.length) / 3)
    const values: number[] = []
    try {
      const pairs = await measurePairs(plan, sides, work, growthRounds, fill)
      values.push(...pairs.map(([few, many]) => many / few / times))
    } catch (error) {
      omit(plan, `growth, ${name}: ${messageOf(error)}`)
    }
    figures.push({ suite: 'growth', name, unit: '×', values, goal: atMost(growthGoal) })
  }
  await compared('cpu with 16 TiB ÷ with 1 GiB', [leaf(GiB), leaf(16 * TiB)], reads, {
    fill: false,
  })
  await compared('cpu with 1,000 exports ÷ with one', [exports(1), exports(1000)], reads, {})
  await compared('cpu for each leg with 100 legs ÷ with 10', [mirror(0), mirror(1)], writes, {
    times: legs[1] / legs[0],
  })
  return figures
}

/** The last run's figures, each with the medians of all runs and their range. */
export function formatOccasions(occasions: readonly Occasion[]): string {
  const last = occasions.at(-1)!
  const keyOf = ({ suite, name }: Figure): string => `${suite}: ${name}`
  const parts = [...new Set(last.figures.map(({ suite }) => suite))].map((suite) => {
    const lines = last.figures
      .filter((figure) => figure.suite === suite)
      .map((figure) => {
        const same = occasions.flatMap(({ figures }) =>
          figures.filter((one) => keyOf(one) === keyOf(figure) && one.values.length > 0),
        )
        return [...figureCells(figure), medians(same)]
      })
    const heading = [...figureColumns, 'medians of all runs']
    return `\n${suite}\n${align([heading, ...lines])}`
  })
  const met = last.figures.map(isMet)
  const count = (what: boolean): number => met.filter((one) => one === what).length
  const unknown = last.figures.filter((one) => one.goal !== null && isMet(one) === null).length
  const runs = occasions.map(({ started, machine, seconds, parameters = [] }) =>
    [
      ...['', started, machine.commit, describeSeconds(seconds), `load ${machine.loadBefore}`],
      // Fewer rounds, or smaller volumes, are not to be taken for a run like the others.
      ...parameters.filter((word) => word !== '--goals'),
    ].join('  '),
  )
  return [
    ...parts,
    `\n${count(true)} goals met, ${count(false)} missed, ${unknown} not measured`,
    formatOmitted(last.omitted),
    `\nRuns:\n${runs.join('\n')}`,
  ].join('\n')
}

/** Of each run in which the figure was measured; a star where its goal was missed. */
function medians(figures: readonly Figure[]): string {
  return figures
    .map((figure) => `${median(figure.values).toFixed(2)}${isMet(figure) === false ? '*' : ''}`)
    .join(' ')
}
