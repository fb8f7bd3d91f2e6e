import { describeSize, GiB, KiB } from '../../src/base/size.ts'
import type { AllocationRow } from '../count/allocation-suite.ts'
import { describeSpread } from './figures.ts'
import type { Machine } from '../run/machine.ts'
import type { Row } from '../run/run.ts'
import { median, spreadOf } from '../compare/stats.ts'
import { nameOf, type Round } from '../clients/work.ts'

/** Rises when a reader of the old form of a report would be misled. */
export const reportVersion = 2

/** The content of the JSON file. */
export interface Report {
  readonly version: typeof reportVersion
  /** ISO 8601. */
  readonly started: string
  readonly seconds: number
  readonly machine: Machine
  /** The words behind `npm run bench --`. */
  readonly parameters: readonly string[]
  /** The commit of the other version that was measured in turn; null for none. */
  readonly against: string | null
  /** What could not be measured, and why. */
  readonly omitted: readonly string[]
  readonly rows: readonly Row[]
  readonly allocations: readonly AllocationRow[]
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

/** What rows that are held against each other have in common. */
export function rowKey({ suite, setting, work }: Row): string {
  return `${suite} ${setting} ${nameOf(work)}`
}

/** Rows of the same work in the same setting, ours first. */
export function groupRows(rows: readonly Row[]): Row[][] {
  const groups = new Map<string, Row[]>()
  for (const row of rows) {
    const key = rowKey(row)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [row])
    else group.push(row)
  }
  for (const group of groups.values())
    group.sort(
      (a, b) =>
        Number(b.server === ourServer) - Number(a.server === ourServer) ||
        a.server.localeCompare(b.server, 'en'),
    )
  return [...groups.values()]
}

/** What both did in the same rounds. */
export function pairs(ours: Row, peer: Row): [Round, Round][] {
  const theirs = new Map(peer.rounds.map((round) => [round.round, round]))
  return ours.rounds.flatMap((round) => {
    const its = theirs.get(round.round)
    return its === undefined ? [] : [[round, its] as [Round, Round]]
  })
}

/** Our processor time and throughput divided by a peer's, for each round. */
export function ratiosOf(ours: Row, peer: Row): { cpu: number[]; rate: number[] } {
  const both = pairs(ours, peer)
  const ratios = (of: (round: Round) => number): number[] =>
    both.map(([one, its]) => of(one) / of(its))
  return { cpu: ratios(costPerOperation), rate: ratios(rate) }
}

const columns = ['work', 'server', 'op/s', 'MiB/s', 'p50 µs', 'p99 µs', 'p99.9 µs', 'cpu', 'peak']

/** Tables for a terminal, one for each suite and setting. */
export function formatTables(report: Report): string {
  const tables = new Map<string, string[][]>()
  for (const group of groupRows(report.rows)) {
    const { suite, setting } = group[0]!
    const heading = `\n${suite}: ${setting}`
    const lines = tables.get(heading) ?? [[...columns, ...ratioColumns]]
    tables.set(heading, lines)
    for (const row of group) lines.push([...cells(row), ...ratioCells(group, row)])
  }
  const parts = [...tables].map(([heading, lines]) => `${heading}\n${align(lines)}`)
  if (report.allocations.length > 0) parts.push(formatAllocations(report.allocations))
  return parts.join('\n') + formatOmitted(report.omitted)
}

/** '' when nothing was left out. */
export function formatOmitted(omitted: readonly string[]): string {
  return omitted.length === 0 ? '' : `\n\nLeft out:\n  ${omitted.join('\n  ')}\n`
}

function formatAllocations(rows: readonly AllocationRow[]): string {
  const lines = rows.map((row) => [
    nameOf(row.work),
    row.server,
    row.objectsPerOperation.toFixed(2),
    row.ownObjectsPerOperation.toFixed(2),
    row.bytesPerOperation.toFixed(0),
    row.copiedPerByte.toFixed(3),
    row.sites.map(({ where, objects }) => `${objects.toFixed(2)} ${where}`).join(', '),
  ])
  const heading = [
    'work',
    'server',
    'objects/op',
    'ours',
    'bytes/op',
    'copied/byte',
    'most of them in',
  ]
  const title = 'allocation on the heap, and bytes copied for each byte moved'
  return `\n${title}\n${align([heading, ...lines])}`
}

const ratioColumns = ['our cpu ÷ its', 'our op/s ÷ its']

function ratioCells(group: readonly Row[], row: Row): string[] {
  const ours = group.find(({ server }) => server === ourServer)
  if (ours === undefined || row === ours) return ['', '']
  const { cpu, rate } = ratiosOf(ours, row)
  if (cpu.length === 0) return ['', '']
  return [describeSpread(spreadOf(cpu)), describeSpread(spreadOf(rate))]
}

function cells(row: Row): string[] {
  const { rounds } = row
  if (rounds.length === 0) return [nameOf(row.work), row.server, 'failed']
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
