import { barChart, curveChart, escape, type Bar } from './chart.ts'
import { formatSize, MiB } from '../src/base/size.ts'
import { figureCells, figureColumns, type Figure } from './figures.ts'
import { growthPrefix } from './growth.ts'
import { secondsPerGiB, ways, type PathResult } from './paths.ts'
import {
  bandwidth,
  costPerGiB,
  costPerOperation,
  formatTables,
  groupRows,
  isLarge,
  ourServer,
  rate,
  ratiosOf,
  type Report,
} from './report.ts'
import type { Row } from './run.ts'
import { median } from './stats.ts'
import { nameOf } from './work.ts'

const style = `
body { font: 14px/1.5 system-ui, sans-serif; max-width: 76em; margin: 2em auto; padding: 0 1em; }
figure { margin: 1.5em 0; } figcaption { font-weight: 600; }
svg { max-width: 100%; height: auto; } text { font-size: 11px; fill: currentColor; }
rect.ours { fill: #1f77b4; } rect.other { fill: #b8c4d0; } line { stroke: #444; }
line.grid { stroke: #8884; } polyline { fill: none; stroke-width: 2; }
pre { overflow-x: auto; font-size: 12px; }
table { border-collapse: collapse; } td, th { padding: 0.1em 0.8em 0.1em 0; text-align: left; }
td.met { color: #2a8f4d; } td.MISSED { color: #d0402b; font-weight: 600; }
${['#1f77b4', '#e08214', '#2a8f4d', '#9467bd', '#d0402b']
  .map((color, at) => `.series${at} { stroke: ${color}; } circle.series${at} { fill: ${color}; }`)
  .join('\n')}
@media (prefers-color-scheme: dark) {
  body { background: #16191d; color: #dde; } line { stroke: #ccc; } rect.other { fill: #566; }
}`

/**
 * The report as one page that needs nothing else: charts first, then the tables. `summary` is text
 * to stand above all of them.
 */
export function formatPage(report: Report, summary = ''): string {
  const { machine, started, seconds, parameters, against, omitted } = report
  // What failed is in the tables, and why is at their end.
  const measured = report.rows.filter(({ rounds }) => rounds.length > 0)
  const facts = [
    `${machine.processor}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${machine.node}`,
    `commit ${machine.commit}, ${started}, ${seconds.toFixed(0)} s,` +
      ` load before ${machine.loadBefore.toFixed(2)}`,
    Object.entries(machine.programs)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
    `npm run bench -- ${parameters.join(' ')}`,
    ...(against === null ? [] : [`"other" is commit ${against}`]),
    ...(omitted.length === 0 ? [] : [`${omitted.length} things were left out: see the end`]),
  ]
  return [
    '<!doctype html><html lang="en"><meta charset="utf-8">',
    `<title>dst benchmark ${escape(machine.commit)}</title><style>${style}</style>`,
    '<h1>How fast the target is</h1>',
    `<p>${facts.map(escape).join('<br>')}</p>`,
    ...(summary === '' ? [] : [`<pre>${escape(summary)}</pre>`]),
    '<p>Processor time of the server alone: shorter is better. A bar is the median of the rounds,',
    'its line reaches from the lowest to the highest.</p>',
    ...charts(measured),
    ...tables(report.figures),
    ...curves(measured),
    ...pathCurves(report.paths),
    `<h2>Tables</h2><pre>${escape(formatTables(report))}</pre></html>`,
  ].join('\n')
}

/** Bars for every work, under a heading for every suite and setting. */
function charts(rows: readonly Row[]): string[] {
  const found = new Map<string, string[]>()
  for (const group of groupRows(rows.filter(({ suite }) => !suite.startsWith(growthPrefix)))) {
    const first = group[0]!
    const heading = `<h2>${escape(`${first.suite}: ${first.setting}`)}</h2>`
    const parts = found.get(heading) ?? [heading]
    found.set(heading, parts)
    parts.push(
      barChart(
        nameOf(first.work),
        group.map((row) => barOf(row, first)),
      ),
    )
  }
  return [...found.values()].flat()
}

/** A row's processor time; its label says how fast it was, and how it stands to ours. */
function barOf(row: Row, ours: Row): Bar {
  const large = isLarge(row)
  const costs = row.rounds.map((round) =>
    large ? costPerGiB(round) / 1e9 : costPerOperation(round) / 1000,
  )
  const value = median(costs)
  const speed = large
    ? `${(median(row.rounds.map(bandwidth)) / MiB).toFixed(0)} MiB/s`
    : `${median(row.rounds.map(rate)).toFixed(0)} op/s`
  const ratios = row === ours || ours.server !== ourServer ? [] : ratiosOf(ours, row).cpu
  const ratio = ratios.length === 0 ? '' : ` · ours ÷ this: ${median(ratios).toFixed(2)}`
  return {
    name: row.server,
    value,
    low: Math.min(...costs),
    high: Math.max(...costs),
    label: `${value.toFixed(large ? 3 : 2)} ${large ? 's/GiB' : 'µs/op'} · ${speed}${ratio}`,
    ours: row.server === ourServer,
  }
}

/** Figures of their own, with their goals. */
function tables(figures: readonly Figure[]): string[] {
  return [...new Set(figures.map(({ suite }) => suite))].map((suite) => {
    const lines = figures
      .filter((figure) => figure.suite === suite)
      .map((figure) => {
        const cells = figureCells(figure).map(escape)
        return `<tr><td>${cells.join('</td><td>')}</td></tr>`
      })
      .map((line) => line.replace(/<td>(met|MISSED)</, '<td class="$1">$1<'))
    const heading = figureColumns.map((column) => `<th>${column}</th>`).join('')
    return `<h2>${escape(suite)}</h2><table><tr>${heading}</tr>${lines.join('\n')}</table>`
  })
}

/** One curve for everything that grows, and each kind of work. */
function curves(rows: readonly Row[]): string[] {
  const found = new Map<string, Row[]>()
  for (const row of rows) {
    if (!row.suite.startsWith(growthPrefix)) continue
    const key = `${row.suite.slice(growthPrefix.length)}: ${row.work.pattern}`
    found.set(key, [...(found.get(key) ?? []), row])
  }
  const charts = [...found].map(([key, all]) => {
    const points = all
      .map((row) => ({
        x: Number(row.server),
        y: median(row.rounds.map(costPerOperation)) / 1000,
      }))
      .sort((a, b) => a.x - b.x)
    const name = `${key} ${formatSize(all[0]!.work.blockSize)}`
    return curveChart(name, key.split(':')[0]!, 'µs of processor time for each operation', [
      { name: '', points },
    ])
  })
  return charts.length === 0 ? [] : ['<h2>How cost grows</h2>', ...charts]
}

/** What each way of moving payloads costs by their size. */
function pathCurves(results: readonly PathResult[]): string[] {
  if (results.length === 0) return []
  const series = ways.map((name) => ({
    name,
    points: results
      .filter(({ way, messages }) => way === name && messages > 0)
      .map((result) => ({ x: result.size, y: secondsPerGiB(result) })),
  }))
  const drawn = series.filter(({ points }) => points.length > 0)
  const name = 's of processor time for each GiB'
  return [
    '<h2>Ways to move buffers</h2>',
    curveChart('Receiving and sending', 'bytes of a payload', name, drawn, formatSize),
  ]
}
