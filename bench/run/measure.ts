import {
  allocationSeconds,
  measureAllocations,
  type AllocationRow,
} from '../count/allocation-suite.ts'
import { fio, fioSpeaksNbd, type Client } from '../clients/fio.ts'
import { commitOf, describeMachine } from './machine.ts'
import type { Options, SuiteName } from '../options.ts'
import { ownClient } from '../clients/own.ts'
import { Progress } from './progress.ts'
import { measureRegression } from '../compare/regression.ts'
import { reportVersion, type Report } from '../report/report.ts'
import { runBout, secondsOf, type Bout, type Row } from './run.ts'
import type { Folders } from '../servers/servers.ts'
import { memoryBouts, messageOf, omit, peersBouts, protocolBouts, type Plan } from './suites.ts'

/** Seconds of the rounds that `--compare` judges by. */
export const regressionSeconds = 45

/** What the parts of a run put their results in. */
export interface Found {
  readonly rows: Row[]
  readonly allocations: AllocationRow[]
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

export function partsOfBouts(bouts: readonly Bout[], clients: Clients): Part[] {
  return bouts.map((bout) => ({
    name: bout.suite,
    seconds: secondsOf(bout),
    run: async (progress, { rows }) => {
      rows.push(...(await runBout(bout, progress, clients[bout.client])))
    },
  }))
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

export function regressionPart(plan: Plan, slowdown = 0): Part {
  return {
    name: 'regression',
    seconds: regressionSeconds,
    run: async (progress, { rows }) => {
      rows.push(...(await measureRegression(plan, regressionSeconds, progress, { slowdown })))
    },
  }
}

/** The parts of each suite. */
const parts: Readonly<Record<SuiteName, (plan: Plan, clients: Clients) => Part[]>> = {
  peers: (plan, clients) => partsOfBouts(peersBouts(plan), clients),
  protocols: (plan, clients) => partsOfBouts(protocolBouts(plan), clients),
  memory: (plan, clients) => partsOfBouts(memoryBouts(plan), clients),
  allocation: (plan, clients) => [allocationPart(plan, clients)],
  regression: (plan) => [regressionPart(plan)],
}

const quickSuites: readonly SuiteName[] = ['peers', 'regression']
const fullSuites = Object.keys(parts) as SuiteName[]

/** All suites are wanted unless some are named; a quick run has few. */
export async function measureAll(options: Options, folders: Folders): Promise<Report> {
  const plan = planOf(options, folders)
  const clients = await chooseClients(plan.omitted)
  const usual = options.quick ? quickSuites : fullSuites
  const wanted = options.suites.length > 0 ? options.suites : usual
  return run(
    wanted.flatMap((suite) => parts[suite](plan, clients)),
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
  const found: Found = { rows: [], allocations: [] }
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
  const against = plan.against === null ? null : commitOf(plan.against)
  const { parameters } = options
  const { omitted } = plan
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
