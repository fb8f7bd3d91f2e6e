import { describeSize, formatSize, GiB, KiB, MiB } from '../src/base/size.ts'
import type { AllocationRow } from './allocation-suite.ts'
import type { Idle } from './growth.ts'
import type { Machine } from './machine.ts'
import type { PathResult } from './paths.ts'
import type { Row } from './run.ts'
import { median, pairedRatio, type Spread } from './stats.ts'
import { nameOf, type Round } from './work.ts'

/** The content of the JSON file. `version` rises when a reader of the old form would be misled. */
export interface Report {
  readonly version: 1
  /** ISO 8601. */
  readonly started: string
  readonly seconds: number
  readonly machine: Machine
  readonly options: Readonly<Record<string, unknown>>
  /** What could not be measured, and why. */
  readonly omitted: readonly string[]
  readonly rows: readonly Row[]
  readonly idle: readonly Idle[]
  readonly allocations: readonly AllocationRow[]
  readonly paths: readonly PathResult[]
}

/** Whose rows are ours; all others are peers or limits. */
export const ourServer = 'dst'

export const costPerOperation = (round: Round): number => round.cpu / round.operations
export const costPerGiB = (round: Round): number => (round.cpu / round.bytes) * GiB
export const bandwidth = (round: Round): number => round.bytes / round.seconds
export const rate = (round: Round): number => round.operations / round.seconds

/** What is reported of large blocks is the cost per byte, of small ones the cost per operation. */
export function isLarge(row: Row): boolean {
  return row.work.blockSize >= 64 * KiB
}

/** Rows of the same work in the same setting, ours first. */
export function groupRows(rows: readonly Row[]): Row[][] {
  const groups = new Map<string, Row[]>()
  for (const row of rows) {
    const key = `${row.suite} ${row.setting} ${nameOf(row.work)}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [row])
    else group.push(row)
  }
  for (const group of groups.values())
    group.sort((a, b) => Number(b.server === ourServer) - Number(a.server === ourServer))
  return [...groups.values()]
}

/** Our processor time and throughput divided by a peer's, round by round. */
export function ratiosOf(ours: Row, peer: Row): { readonly cpu: Spread; readonly rate: Spread } {
  return {
    cpu: pairedRatio(ours.rounds.map(costPerOperation), peer.rounds.map(costPerOperation)),
    rate: pairedRatio(ours.rounds.map(rate), peer.rounds.map(rate)),
  }
}

const columns = ['work', 'server', 'op/s', 'MiB/s', 'p50 µs', 'p99 µs', 'p99.9 µs', 'cpu', 'peak']

/** Tables for a terminal, one for each suite and setting. */
export function formatTables(report: Report): string {
  const parts: string[] = []
  let heading = ''
  let lines: string[][] = []
  const flush = (): void => {
    if (lines.length > 0)
      parts.push(`\n${heading}\n${align([[...columns, ...ratioColumns], ...lines])}`)
    lines = []
  }
  for (const group of groupRows(report.rows)) {
    const first = group[0]!
    const next = `${first.suite}: ${first.setting}`
    if (next !== heading) flush()
    heading = next
    for (const row of group) lines.push([...cells(row), ...ratioCells(group, row)])
  }
  flush()
  if (report.allocations.length > 0) parts.push(formatAllocations(report.allocations))
  if (report.paths.length > 0) parts.push(formatPaths(report.paths))
  if (report.idle.length > 0) parts.push(formatIdle(report.idle))
  if (report.omitted.length > 0) parts.push(`\nLeft out:\n  ${report.omitted.join('\n  ')}`)
  return parts.join('\n')
}

function formatAllocations(rows: readonly AllocationRow[]): string {
  const lines = rows.map(({ work, server, objectsPerOperation, bytesPerOperation, sites }) => [
    nameOf(work),
    server,
    objectsPerOperation.toFixed(2),
    bytesPerOperation.toFixed(0),
    sites
      .slice(0, 3)
      .map(({ where, objects }) => `${objects.toFixed(2)} ${where}`)
      .join(', '),
  ])
  const heading = ['work', 'server', 'objects/op', 'bytes/op', 'most of them in']
  return `\nallocation on the heap\n${align([heading, ...lines])}`
}

function formatPaths(results: readonly PathResult[]): string {
  const lines = results.map((result) => {
    const { way, size, bytesPerSecond, cpu, messages, copiedPerByte } = result
    return [
      way,
      formatSize(size),
      (bytesPerSecond / MiB).toFixed(0),
      (cpu / 1e9 / ((messages * size) / GiB)).toFixed(3),
      copiedPerByte.toFixed(2),
      result.objectsPerMessage.toFixed(2),
      result.bytesPerMessage.toFixed(0),
      result.collecting.toFixed(1),
    ]
  })
  const heading = ['way', 'payload', 'MiB/s', 's/GiB', 'copied', 'objects', 'bytes', 'GC ms']
  return `\nbuffer paths: per byte moved, and per payload\n${align([heading, ...lines])}`
}

function formatIdle(rows: readonly Idle[]): string {
  const lines = rows.map(
    ({ connections, cpu }) =>
      `${connections} idle connections: ${cpu.toFixed(2)} ms of processor time in each second`,
  )
  return `\nidle\n${lines.join('\n')}`
}

const ratioColumns = ['our cpu ÷ its', 'our op/s ÷ its']

function ratioCells(group: readonly Row[], row: Row): string[] {
  const ours = group.find(({ server }) => server === ourServer)
  if (ours === undefined || row === ours) return ['', '']
  const { cpu, rate } = ratiosOf(ours, row)
  return [formatSpread(cpu), formatSpread(rate)]
}

export function formatSpread({ middle, low, high }: Spread): string {
  return `${middle.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`
}

export function cells(row: Row): string[] {
  const { rounds } = row
  const of = (value: (round: Round) => number): number => median(rounds.map(value))
  const micro = (value: (round: Round) => number | null): string => {
    const known = rounds.map(value).filter((latency) => latency !== null)
    return known.length === 0 ? '' : (median(known) / 1000).toFixed(0)
  }
  return [
    nameOf(row.work),
    row.server,
    of(rate).toFixed(0),
    (of(bandwidth) / 2 ** 20).toFixed(0),
    micro(({ p50 }) => p50),
    micro(({ p99 }) => p99),
    micro(({ p999 }) => p999),
    isLarge(row)
      ? `${(of(costPerGiB) / 1e9).toFixed(3)} s/GiB`
      : `${(of(costPerOperation) / 1000).toFixed(2)} µs/op`,
    describeSize(of(({ peakBytes }) => peakBytes)),
  ]
}

/** Columns side by side: the first two to the left, figures to the right. */
export function align(lines: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const line of lines)
    for (const [at, cell] of line.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length)
  return lines
    .map((line) =>
      line
        .map((cell, at) => (at < 2 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
