import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { isObject } from '../../src/base/guards.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { bridgeName, dstFileName, type AllocationRow } from '../count/allocation-suite.ts'
import {
  atLeast,
  atMost,
  figureCells,
  figureColumns,
  isMet,
  type Figure,
  type Goal,
} from './figures.ts'
import { allocationPart, chooseClient, partsOfBouts, run, type Part } from '../run/measure.ts'
import { describeDuration } from '../../src/base/duration.ts'
import { align, formatOmitted, groupRows, ourServer, ratiosOf, type Report } from './report.ts'
import type { Row } from '../run/run.ts'
import { nbdkit, qemuNbd } from '../servers/servers.ts'
import { median } from '../compare/stats.ts'
import {
  boutOf,
  goalWorks,
  memoryBouts,
  memorySuite,
  nbdServerName,
  protocolBouts,
  quorumBout,
  quorumSuite,
  serversOf,
  unix,
  type Plan,
} from '../run/suites.ts'
import { leafTree } from '../servers/trees.ts'
import { nameOf, type Work } from '../clients/work.ts'

/** One run of `--goals`; the file holds all of them, oldest first. */
export interface Occasion extends Pick<Report, 'started' | 'seconds' | 'machine' | 'omitted'> {
  /** The words behind `npm run bench --`; runs of older versions have not kept them. */
  readonly parameters?: readonly string[]
  readonly figures: readonly Figure[]
}

/** Measures everything that has a goal, adds it to the file, and prints it beside earlier runs. */
export async function measureGoals(plan: Plan): Promise<true> {
  const earlier = readOccasions(plan.json)
  const report = await run(await goalParts(plan), plan)
  const { started, seconds, machine, parameters, omitted } = report
  const figures = goalFigures(report)
  const occasion = { started, seconds, machine, parameters, omitted, figures }
  const occasions = [...earlier, occasion]
  writeOccasions(plan.json, occasions)
  process.stdout.write(`${formatOccasions(occasions)}\n`)
  return true
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
  const client = await chooseClient(plan)
  const peers = serversOf(plan, leafTree, [nbdkit, qemuNbd])
  const file = { ...unix, media: 'file' } as const
  const bouts = [
    boutOf(plan, peersSuite, goalWorks, peers, unix, { ...pace, budget: budgets.memory }),
    boutOf(plan, peersSuite, fileWorks, peers, file, { ...pace, budget: budgets.file }),
    quorumBout(plan, [], { ...pace, budget: budgets.quorum }),
    ...protocolBouts(plan, ['unix'], { ...pace, rounds: 3, budget: budgets.protocols }),
    ...memoryBouts(plan),
  ]
  return [...partsOfBouts(bouts, client), allocationPart(plan, client)]
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
  ]
}

function figuresOfGroup(group: readonly Row[]): Figure[] {
  const ours = group.find(({ server }) => server === ourServer)
  if (ours === undefined) return []
  if (ours.suite.startsWith(memorySuite)) return [memoryFigure(ours)]
  return group.filter((row) => row !== ours).flatMap((peer) => figuresOfPair(ours, peer))
}

/** What the limits of a target's configuration are to keep it below, in MiB. */
const memoryGoalMiB = 512

function memoryFigure({ work, setting, suite, rounds }: Row): Figure {
  const values = rounds.map(({ peakBytes }) => peakBytes / MiB)
  const name = `${suite.slice(memorySuite.length + 2)}, ${setting}: ${nameOf(work)}`
  return { suite: memorySuite, name, unit: 'MiB', values, goal: atMost(memoryGoalMiB) }
}

function figuresOfPair(ours: Row, peer: Row): Figure[] {
  const { work, setting } = ours
  const media = setting.split(' ')[0]!
  const [goal, rate] = goalOf(ours, peer, media)
  const suite = `${ours.suite === peersSuite ? media : ours.suite}, against ${peer.server}`
  const ratios = ratiosOf(ours, peer)
  return [
    { suite, name: `${nameOf(work)}, cpu`, unit: '×', values: ratios.cpu, goal },
    { suite, name: `${nameOf(work)}, op/s`, unit: '×', values: ratios.rate, goal: rate },
  ]
}

/** For processor time and for throughput. */
function goalOf(ours: Row, { server }: Row, media: string): [Goal, Goal | null] {
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
      ...[
        '',
        started,
        machine.commit,
        describeDuration(seconds * 1000),
        `load ${machine.loadBefore}`,
      ],
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
