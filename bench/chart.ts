/** One thing to draw: a name and its figures, with the range they were seen in. */
export interface Bar {
  readonly name: string
  readonly value: number
  readonly low: number
  readonly high: number
  /** What stands behind the bar. */
  readonly label: string
  /** Whether the bar is of the thing that is measured rather than of what it is held against. */
  readonly ours: boolean
}

export interface Point {
  readonly x: number
  readonly y: number
}

const width = 640
const barHeight = 18
const nameWidth = 130
const labelWidth = 250

/** Horizontal bars on one scale, with a whisker from the lowest to the highest round. */
export function barChart(title: string, bars: readonly Bar[]): string {
  const top = Math.max(...bars.map(({ high }) => high))
  const scale = (value: number): number => (value / top) * (width - nameWidth - labelWidth)
  const height = bars.length * barHeight
  const drawn = bars.map(({ name, value, low, high, label, ours }, at) => {
    const y = at * barHeight
    const middle = y + barHeight / 2
    return [
      text(nameWidth - 6, middle + 4, name, 'end'),
      `<rect class="${ours ? 'ours' : 'other'}" x="${nameWidth}" y="${y + 3}"` +
        ` width="${fixed(scale(value))}" height="${barHeight - 6}"/>`,
      `<line x1="${fixed(nameWidth + scale(low))}" x2="${fixed(nameWidth + scale(high))}"` +
        ` y1="${middle}" y2="${middle}"/>`,
      text(nameWidth + scale(high) + 6, middle + 4, label, 'start'),
    ].join('')
  })
  return figure(title, height, drawn.join('\n'))
}

/** One line of a chart. */
export interface Series {
  /** '' when it is the only one. */
  readonly name: string
  readonly points: readonly Point[]
}

const curveHeight = 240
const legendHeight = 18
const margin = { left: 60, right: 20, top: 14, bottom: 44 }

/** A place on a logarithmic axis, from 0 to 1. */
function logarithmic(low: number, high: number): (value: number) => number {
  return (value) => Math.log(value / low) / Math.log(high / low)
}

/** The powers of ten, their doubles and their halves that lie in a range or bound it. */
export function ticksOf(low: number, high: number): number[] {
  const all: number[] = []
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)); power++)
    for (const digit of [1, 2, 5]) all.push(Number(`${digit}e${power}`))
  const first = all.findLastIndex((tick) => tick <= low)
  const last = all.findIndex((tick) => tick >= high)
  return all.slice(first, Math.max(last, first + 1) + 1)
}

/** Curves on logarithmic axes, because what is drawn spans powers of ten; values at the points. */
export function curveChart(
  title: string,
  xName: string,
  yName: string,
  series: readonly Series[],
  nameOfX: (x: number) => string = (x) => x.toLocaleString('en'),
): string {
  const points = series.flatMap((one) => one.points)
  const xs = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b)
  const ys = points.map(({ y }) => y)
  const ticks = ticksOf(Math.min(...ys), Math.max(...ys))
  const alongX = logarithmic(xs[0]!, Math.max(xs.at(-1)!, xs[0]! * 1.001))
  const alongY = logarithmic(ticks[0]!, ticks.at(-1)!)
  const right = width - margin.right - 30
  const bottom = curveHeight - margin.bottom
  const placeX = (x: number): number => margin.left + alongX(x) * (right - margin.left)
  const placeY = (y: number): number => bottom - alongY(y) * (bottom - margin.top)
  const parts = ticks.map((tick) => {
    const y = fixed(placeY(tick))
    const line = `<line class="grid" x1="${margin.left}" x2="${right}" y1="${y}" y2="${y}"/>`
    return line + text(margin.left - 6, placeY(tick) + 4, tick.toLocaleString('en'), 'end')
  })
  for (const x of xs) parts.push(text(placeX(x), bottom + 16, nameOfX(x), 'middle'))
  for (const [at, { name, points }] of series.entries()) {
    const places = points.map(({ x, y }) => `${fixed(placeX(x))},${fixed(placeY(y))}`)
    parts.push(`<polyline class="series${at}" points="${places.join(' ')}"/>`)
    for (const { x, y } of points) {
      const cx = fixed(placeX(x))
      parts.push(`<circle class="series${at}" cx="${cx}" cy="${fixed(placeY(y))}" r="3"/>`)
      if (series.length === 1) parts.push(text(placeX(x), placeY(y) - 7, short(y), 'middle'))
    }
    if (name === '') continue
    const legend = curveHeight + at * legendHeight
    parts.push(`<circle class="series${at}" cx="${margin.left}" cy="${legend}" r="4"/>`)
    parts.push(text(margin.left + 10, legend + 4, name, 'start'))
  }
  parts.push(text((margin.left + right) / 2, bottom + 34, xName, 'middle'))
  const legends = series.filter(({ name }) => name !== '').length
  return figure(`${title}: ${yName}`, curveHeight + legends * legendHeight, parts.join('\n'))
}

function short(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}

function figure(title: string, height: number, content: string): string {
  return (
    `<figure><figcaption>${escape(title)}</figcaption>\n` +
    `<svg viewBox="0 0 ${width} ${height}" width="${width}">\n${content}\n</svg></figure>`
  )
}

function text(x: number, y: number, content: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${fixed(x)}" y="${fixed(y)}" text-anchor="${anchor}">${escape(content)}</text>`
}

function fixed(value: number): string {
  return value.toFixed(1)
}

export function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
