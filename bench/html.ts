import { barChart, curveChart, escape, type Bar } from './chart.ts'
import { growthPrefix } from './growth.ts'
import {
  costPerGiB,
  costPerOperation,
  formatTables,
  groupRows,
  isLarge,
  ourServer,
  type Report,
} from './report.ts'
import type { Row } from './run.ts'
import { median } from './stats.ts'
import { nameOf } from './work.ts'

const style = `
body { font: 14px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
figure { margin: 1.5em 0; } figcaption { font-weight: 600; }
svg { max-width: 100%; height: auto; } text { font-size: 11px; fill: currentColor; }
rect.ours { fill: #1f77b4; } rect.other { fill: #b8c4d0; } line { stroke: #444; }
line.grid { stroke: #8884; } polyline { fill: none; stroke: #1f77b4; stroke-width: 2; }
circle { fill: #1f77b4; } pre { overflow-x: auto; font-size: 12px; }
@media (prefers-color-scheme: dark) {
  body { background: #16191d; color: #dde; } line { stroke: #ccc; } rect.other { fill: #566; }
}`

/** The report as one page that needs nothing else: charts first, then the tables. */
export function formatPage(report: Report): string {
  const { machine, started, seconds, options } = report
  const facts = [
    `${machine.processor}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${machine.node}`,
    `commit ${machine.commit}, ${started}, ${seconds.toFixed(0)} s,` +
      ` load before ${machine.loadBefore.toFixed(2)}`,
    Object.entries(machine.programs)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
    JSON.stringify(options),
  ]
  return [
    '<!doctype html><html lang="en"><meta charset="utf-8">',
    `<title>dst benchmark ${escape(machine.commit)}</title><style>${style}</style>`,
    '<h1>How fast the target is</h1>',
    `<p>${facts.map(escape).join('<br>')}</p>`,
    '<p>Processor time of the server alone: shorter is better. A bar is the median of the rounds,',
    'its line reaches from the lowest to the highest.</p>',
    ...charts(report.rows),
    ...curves(report.rows),
    `<h2>Tables</h2><pre>${escape(formatTables(report))}</pre></html>`,
  ].join('\n')
}

function charts(rows: readonly Row[]): string[] {
  const parts: string[] = []
  let heading = ''
  for (const group of groupRows(rows.filter(({ suite }) => !suite.startsWith(growthPrefix)))) {
    const first = group[0]!
    const next = `${first.suite}: ${first.setting}`
    if (next !== heading) parts.push(`<h2>${escape(next)}</h2>`)
    heading = next
    parts.push(barChart(nameOf(first.work), group.map(barOf)))
  }
  return parts
}

function barOf(row: Row): Bar {
  const large = isLarge(row)
  const costs = row.rounds.map((round) =>
    large ? costPerGiB(round) / 1e9 : costPerOperation(round) / 1000,
  )
  const value = median(costs)
  return {
    name: row.server,
    value,
    low: Math.min(...costs),
    high: Math.max(...costs),
    label: large ? `${value.toFixed(3)} s/GiB` : `${value.toFixed(2)} µs/op`,
    ours: row.server === ourServer,
  }
}

/** One curve for everything that grows, and each kind of work. */
function curves(rows: readonly Row[]): string[] {
  const found = new Map<string, Row[]>()
  for (const row of rows) {
    if (!row.suite.startsWith(growthPrefix)) continue
    const key = `${row.suite.slice(growthPrefix.length)}: ${row.work.pattern}`
    found.set(key, [...(found.get(key) ?? []), row])
  }
  return [...found].map(([key, points]) =>
    curveChart(
      key,
      key.split(':')[0]!,
      'µs of processor time for each operation',
      points
        .map((row) => ({
          x: Number(row.server),
          y: median(row.rounds.map(costPerOperation)) / 1000,
        }))
        .sort((a, b) => a.x - b.x),
    ),
  )
}
