import { allocationSeconds, measureAllocations, type AllocationRow } from './allocation-suite.ts'
import type { Figure } from './figures.ts'
import { fio, fioSpeaksNbd, type Client } from './fio.ts'
import { growthBouts, idleSeconds, measureIdle, type Idle } from './growth.ts'
import { commitOf, describeMachine } from './machine.ts'
import { measureMemory, memorySeconds } from './memory-suite.ts'
import { measureMirror, mirrorSeconds } from './mirror-suite.ts'
import type { Options, SuiteName } from './options.ts'
import { ownClient } from './own.ts'
import { measurePaths, pathSeconds, pathSizes, pathsSeconds, type PathResult } from './paths.ts'
import { Progress } from './progress.ts'
import { measureRegression } from './regression.ts'
import { ourServer, reportVersion, type Report } from './report.ts'
import { runBout, secondsOf, type Bout, type Row } from './run.ts'
import type { Folders } from './servers.ts'
import { matrixBouts, messageOf, omit, peersBouts, protocolBouts, type Plan } from './suites.ts'

/** Seconds of the rounds that `--compare` judges by. */
export const regressionSeconds = 45

/** What the parts of a run put their results in. */
export interface Found {
  readonly rows: Row[]
  readonly figures: Figure[]
  readonly allocations: AllocationRow[]
  readonly paths: PathResult[]
  readonly idle: Idle[]
}

/** A part of a run. */
export interface Part {
  readonly name: string
  /** Roughly. */
  readonly seconds: number
  run(progress: Progress, found: Found): Promise<void>
}

/** What drives the servers: fio where it can, our own client for DST/1 and where fio is missing. */
export interface Clients {
  readonly fio: Client
  readonly own: Client
}

export async function chooseClients(omitted: string[]): Promise<Clients> {
  if (await fioSpeaksNbd()) return { fio, own: ownClient }
  omitted.push('fio with its NBD engine is not installed: our own client drives everything')
  return { fio: ownClient, own: ownClient }
}

export function planOf(options: Options, folders: Folders): Plan {
  return {
    quick: options.quick,
    size: options.size,
    folders,
    wantsWork: (name) =>
      options.only.length === 0 || options.only.some((part) => name.includes(part)),
    wantsServer: (name) => options.servers.length === 0 || options.servers.includes(name),
    pace: options.pace,
    against: options.against,
    omitted: [],
  }
}

export function partOfBout(bout: Bout, clients: Clients): Part {
  return {
    name: bout.suite,
    seconds: secondsOf(bout),
    run: async (progress, { rows }) => {
      rows.push(...(await runBout(bout, progress, clients[bout.client])))
    },
  }
}

export function idlePart(plan: Plan): Part {
  return {
    name: 'idle',
    seconds: idleSeconds,
    run: async (progress, { idle }) => {
      progress.at('growth: idle', 0)
      idle.push(...(await measureIdle(plan)))
    },
  }
}

export function figuresPart(
  name: string,
  seconds: number,
  measure: (progress: Progress) => Promise<Figure[]>,
): Part {
  return {
    name,
    seconds,
    run: async (progress, { figures }) => {
      figures.push(...(await measure(progress)))
    },
  }
}

export function allocationPart(plan: Plan, { fio }: Clients): Part {
  return {
    name: 'allocation',
    seconds: allocationSeconds,
    run: async (progress, { allocations }) => {
      allocations.push(...(await measureAllocations(plan, fio, progress)))
    },
  }
}

/** The parts of one suite. */
function partsOf(suite: SuiteName, plan: Plan, clients: Clients): Part[] {
  const bouts = (all: readonly Bout[]): Part[] => all.map((bout) => partOfBout(bout, clients))
  switch (suite) {
    case 'peers':
      return bouts(peersBouts(plan))
    case 'protocols':
      return bouts(protocolBouts(plan))
    case 'matrix':
      return bouts(matrixBouts(plan))
    case 'growth':
      return [...bouts(growthBouts(plan)), ...(plan.wantsServer(ourServer) ? [idlePart(plan)] : [])]
    case 'paths':
      return [pathsPart(plan)]
    case 'allocation':
      return [allocationPart(plan, clients)]
    case 'mirror':
      return [figuresPart(suite, mirrorSeconds, (progress) => measureMirror(plan, progress))]
    case 'memory':
      return [
        figuresPart(suite, memorySeconds, (progress) => measureMemory(plan, clients.fio, progress)),
      ]
    case 'regression':
      return [regressionPart(plan)]
  }
}

function pathsPart(plan: Plan): Part {
  return {
    name: 'paths',
    seconds: pathsSeconds,
    run: async (progress, { paths }) => {
      paths.push(...(await measurePaths(plan.folders, pathSeconds, pathSizes, progress)))
    },
  }
}

export function regressionPart(plan: Plan, slowdown = 0): Part {
  return {
    name: 'regression',
    seconds: regressionSeconds,
    run: async (progress, { rows }) => {
      rows.push(...(await measureRegression(plan, regressionSeconds, progress, { slowdown })))
    },
  }
}

const quickSuites: readonly SuiteName[] = ['peers', 'regression']
const fullSuites: readonly SuiteName[] = [
  'peers',
  'protocols',
  'mirror',
  'memory',
  'allocation',
  'paths',
  'growth',
  'regression',
  'matrix',
]

/** All suites are wanted unless some are named; a quick run has few. */
export async function measureAll(options: Options, folders: Folders): Promise<Report> {
  const plan = planOf(options, folders)
  const clients = await chooseClients(plan.omitted)
  const wanted =
    options.suites.length > 0 ? options.suites : options.quick ? quickSuites : fullSuites
  return run(
    wanted.flatMap((suite) => partsOf(suite, plan, clients)),
    plan,
    options,
  )
}

/** Runs one part after the other; one that fails is left out, and the others are run. */
export async function run(parts: readonly Part[], plan: Plan, options: Options): Promise<Report> {
  const began = performance.now()
  const machine = describeMachine()
  const started = new Date().toISOString()
  const progress = new Progress(parts.reduce((sum, { seconds }) => sum + seconds, 0))
  const found: Found = { rows: [], figures: [], allocations: [], paths: [], idle: [] }
  for (const part of parts) {
    progress.part(part.seconds)
    try {
      await part.run(progress, found)
    } catch (error) {
      omit(plan, `${part.name}: ${messageOf(error)}`)
    }
  }
  progress.end()
  const seconds = (performance.now() - began) / 1000
  const { omitted } = plan
  const { parameters } = options
  const against = plan.against === null ? null : commitOf(plan.against)
  return {
    version: reportVersion,
    started,
    seconds,
    machine,
    parameters,
    against,
    omitted,
    ...found,
  }
}
