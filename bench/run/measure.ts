import { measureAllocations, type AllocationRow } from '../count/allocation-suite.ts'
import { fio, fioSpeaksNbd } from '../clients/fio.ts'
import type { Client } from '../clients/work.ts'
import { messageOf } from '../servers/process.ts'
import { commitOf, describeMachine } from './machine.ts'
import { suiteNames, type SuiteName } from '../options.ts'
import { ownClient } from '../clients/own.ts'
import { tellNothing } from './progress.ts'
import { measureRegression, regressionSuite } from '../compare/regression.ts'
import { formatOmitted, reportVersion, type Report } from '../report/report.ts'
import { runBout, type Bout, type Row } from './run.ts'
import { memoryBouts, omit, peersBouts, protocolBouts, type Plan } from './suites.ts'

/** What the parts of a run give. */
interface Found {
  readonly rows: readonly Row[]
  readonly allocations: readonly AllocationRow[]
}

/** A part of a run. */
export interface Part {
  readonly name: string
  run(): Promise<Partial<Found>>
}

/** What drives NBD servers: fio, or our own client where fio is missing. */
export async function chooseClient({ omitted }: Plan): Promise<Client> {
  if (await fioSpeaksNbd()) return fio
  omitted.push('fio with its NBD engine is not installed: our own client drives everything')
  return ownClient
}

export function partsOfBouts(bouts: readonly Bout[], client: Client): Part[] {
  return bouts.map((bout) => ({
    name: bout.suite,
    run: async () => ({ rows: await runBout(bout, client) }),
  }))
}

export function allocationPart(plan: Plan, client: Client): Part {
  const run = async () => ({ allocations: await measureAllocations(plan, client) })
  return { name: 'allocation', run }
}

export function regressionPart(plan: Plan): Part {
  const run = async () => ({ rows: await measureRegression(plan) })
  return { name: regressionSuite, run }
}

/** The parts of each suite. */
const partsOf: Readonly<Record<SuiteName, (plan: Plan, client: Client) => Part[]>> = {
  peers: (plan, client) => partsOfBouts(peersBouts(plan), client),
  protocols: (plan, client) => partsOfBouts(protocolBouts(plan), client),
  memory: (plan, client) => partsOfBouts(memoryBouts(plan), client),
  allocation: (plan, client) => [allocationPart(plan, client)],
  regression: (plan) => [regressionPart(plan)],
}

const quickSuites: readonly SuiteName[] = ['peers', 'regression']

/** All suites are wanted unless some are named; a quick run has few. */
export async function measureAll(plan: Plan): Promise<Report> {
  const client = await chooseClient(plan)
  const usual = plan.quick ? quickSuites : suiteNames
  const wanted = plan.suites.length > 0 ? plan.suites : usual
  return run(
    wanted.flatMap((suite) => partsOf[suite](plan, client)),
    plan,
  )
}

/** Measures the part that `--compare` judges by once more, and prints what it leaves out. */
export async function measureAgain(plan: Plan): Promise<Report> {
  const fresh = { ...plan, omitted: [] }
  const report = await run([regressionPart(fresh)], fresh)
  process.stdout.write(formatOmitted(report.omitted))
  return report
}

/** Runs one part after the other; one that fails is left out, and the others are run. */
export async function run(parts: readonly Part[], plan: Plan): Promise<Report> {
  const { parameters, omitted } = plan
  const began = performance.now()
  const machine = describeMachine()
  const started = new Date().toISOString()
  const rows: Row[] = []
  const allocations: AllocationRow[] = []
  for (const part of parts)
    try {
      const found = await part.run()
      rows.push(...(found.rows ?? []))
      allocations.push(...(found.allocations ?? []))
    } catch (error) {
      omit(plan, `${part.name}: ${messageOf(error)}`)
    }
  tellNothing()
  const seconds = (performance.now() - began) / 1000
  const against = plan.against === null ? null : commitOf(plan.against)
  const found = { omitted, rows, allocations }
  return { version: reportVersion, started, seconds, machine, parameters, against, ...found }
}
