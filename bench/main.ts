import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compare, formatChanges } from './compare.ts'
import { fio, fioSpeaksNbd } from './fio.ts'
import { describeMachine } from './machine.ts'
import { readOptions, usage, type Options } from './options.ts'
import { Progress } from './progress.ts'
import { formatTables, type Report } from './report.ts'
import { runBout, stepsOf, type Bout, type Row } from './run.ts'
import type { Folders } from './servers.ts'
import { goalWorks, installed, peers, peersBout } from './suites.ts'
import { nameOf } from './work.ts'

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
  const works = goalWorks.filter((work) => wanted(options, nameOf(work)))
  if (!(await fioSpeaksNbd())) throw new Error('fio with its NBD engine is needed')
  const { servers } = options
  const chosen = peers.filter(({ name }) => servers.length === 0 || servers.includes(name))
  const setting = {
    works,
    servers: installed(chosen, omitted),
    size: options.size,
    folders,
  }
  const bouts: Bout[] = [peersBout(setting, 'memory', 'unix')]
  const progress = new Progress(bouts.reduce((sum, bout) => sum + stepsOf(bout, options.pace), 0))
  const rows: Row[] = []
  for (const bout of bouts) rows.push(...(await runBout(bout, options.pace, progress, fio)))
  progress.end()
  const seconds = (performance.now() - began) / 1000
  return { version: 1, started, seconds, machine, options: { ...options }, omitted, rows }
}

function readReport(path: string): Report {
  return JSON.parse(readFileSync(path, 'utf8')) as Report
}

function wanted(options: Options, name: string): boolean {
  return options.only.length === 0 || options.only.some((part) => name.includes(part))
}

/** On the disk under test, and in memory where the system has such a folder. */
function makeFolders(): Folders {
  const disk = mkdtempSync(join(tmpdir(), 'dst-bench-'))
  const memory = existsSync('/dev/shm') ? mkdtempSync('/dev/shm/dst-bench-') : disk
  return { disk, memory }
}

await main()
