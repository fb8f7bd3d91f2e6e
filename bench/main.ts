import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compare, formatChanges } from './compare.ts'
import { measureAllocations } from './allocation-suite.ts'
import { growthBouts, measureIdle } from './growth.ts'
import { fio, fioSpeaksNbd } from './fio.ts'
import { formatPage } from './html.ts'
import { describeMachine } from './machine.ts'
import { readOptions, usage, type Options } from './options.ts'
import { ownClient } from './own.ts'
import { measurePaths, pathSizes, ways } from './paths.ts'
import { Progress } from './progress.ts'
import { formatTables, type Report } from './report.ts'
import { runBout, stepsOf, type Bout, type Row } from './run.ts'
import type { Folders } from './servers.ts'
import { matrixBouts, peersBouts, protocolBouts, type Plan } from './suites.ts'

async function main(): Promise<void> {
  let options: Options | 'help'
  try {
    options = readOptions(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`bench: error: ${error instanceof Error ? error.message : ''}\n`)
    process.exitCode = 2
    return
  }
  if (options === 'help') {
    process.stdout.write(usage)
    return
  }
  const folders = makeFolders()
  try {
    const report = await measureAll(options, folders)
    process.stdout.write(`${formatTables(report)}\n`)
    // Read before the new report, which may take the old one's place, is written.
    const earlier = options.compare === null ? null : readReport(options.compare)
    writeFileSync(options.json, JSON.stringify(report, null, 1))
    writeFileSync(options.html, formatPage(report))
    if (earlier !== null) {
      const changes = compare(earlier, report)
      process.stdout.write(`\n${formatChanges(changes)}\n`)
      if (changes.some(({ slower }) => slower)) process.exitCode = 1
    }
  } finally {
    rmSync(folders.disk, { recursive: true, force: true })
    rmSync(folders.memory, { recursive: true, force: true })
  }
}

async function measureAll(options: Options, folders: Folders): Promise<Report> {
  const began = performance.now()
  const omitted: string[] = []
  const machine = describeMachine()
  const started = new Date().toISOString()
  const plan: Plan = {
    quick: options.quick,
    size: options.size,
    folders,
    wantsWork: (name) =>
      options.only.length === 0 || options.only.some((part) => name.includes(part)),
    wantsServer: (name) => options.servers.length === 0 || options.servers.includes(name),
    against: options.against,
    omitted,
  }
  const bouts = boutsOf(options, plan)
  const clients = { fio, own: ownClient }
  if (!(await fioSpeaksNbd())) {
    omitted.push('fio with its NBD engine is not installed: our own client drives everything')
    clients.fio = ownClient
  }
  const steps = bouts.reduce((sum, bout) => sum + stepsOf(bout, options.pace), 0)
  const pathSteps = wants(options, 'paths', false) ? pathSizes.length * ways.length : 0
  const progress = new Progress(steps + pathSteps)
  const rows: Row[] = []
  for (const bout of bouts)
    rows.push(...(await runBout(bout, options.pace, progress, clients[bout.client])))
  const attempt = async <T>(suite: string, measure: () => Promise<T[]>): Promise<T[]> => {
    if (!wants(options, suite, false)) return []
    try {
      return await measure()
    } catch (error) {
      omitted.push(`${suite}: ${error instanceof Error ? error.message : String(error)}`)
      return []
    }
  }
  const extra = {
    idle: await attempt('growth', () => measureIdle(plan)),
    paths: await attempt('paths', () =>
      measurePaths(folders, options.pace.seconds, pathSizes, progress),
    ),
    allocations: await attempt('allocation', () => measureAllocations(plan, clients.fio)),
  }
  progress.end()
  const seconds = (performance.now() - began) / 1000
  return { version: 1, started, seconds, machine, options: { ...options }, omitted, rows, ...extra }
}

/** All suites are wanted unless some are named; a quick run has few. */
function wants({ suites, quick }: Options, suite: string, inQuick: boolean): boolean {
  return suites.length === 0 ? inQuick || !quick : suites.includes(suite)
}

function boutsOf(options: Options, plan: Plan): Bout[] {
  return [
    ...(wants(options, 'peers', true) ? peersBouts(plan) : []),
    ...(wants(options, 'protocols', false) ? protocolBouts(plan) : []),
    ...(wants(options, 'matrix', false) ? matrixBouts(plan) : []),
    ...(wants(options, 'growth', false) ? growthBouts(plan) : []),
  ]
}

function readReport(path: string): Report {
  return JSON.parse(readFileSync(path, 'utf8')) as Report
}

/** On the disk under test, and in memory where the system has such a folder. */
function makeFolders(): Folders {
  const disk = mkdtempSync(join(tmpdir(), 'dst-bench-'))
  const memory = existsSync('/dev/shm') ? mkdtempSync('/dev/shm/dst-bench-') : disk
  return { disk, memory }
}

await main()
