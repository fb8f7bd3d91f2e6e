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
const labelWidth = 150

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

const curveHeight = 200
const margin = { left: 60, right: 20, top: 10, bottom: 30 }

/** One curve; both axes are logarithmic, because what is drawn spans powers of ten. */
export function curveChart(
  title: string,
  xName: string,
  yName: string,
  points: readonly Point[],
): string {
  const xs = points.map(({ x }) => Math.log10(x))
  const ys = points.map(({ y }) => Math.log10(y))
  const low = Math.floor(Math.min(...ys))
  const high = Math.max(low + 1, Math.ceil(Math.max(...ys)))
  const left = Math.min(...xs)
  const right = Math.max(left + 0.001, ...xs)
  const inner = { width: width - margin.left - margin.right, height: curveHeight - 40 }
  const place = (at: number): { x: number; y: number } => ({
    x: margin.left + ((xs[at]! - left) / (right - left)) * inner.width,
    y: margin.top + (1 - (ys[at]! - low) / (high - low)) * inner.height,
  })
  const places = points.map((_, at) => place(at))
  const line = places.map(({ x, y }) => `${fixed(x)},${fixed(y)}`).join(' ')
  const parts = [`<polyline points="${line}"/>`]
  for (const [at, { x, y }] of places.entries()) {
    parts.push(`<circle cx="${fixed(x)}" cy="${fixed(y)}" r="3"/>`)
    parts.push(text(x, curveHeight - 16, String(points[at]!.x), 'middle'))
  }
  for (let power = low; power <= high; power++) {
    const y = margin.top + (1 - (power - low) / (high - low)) * inner.height
    parts.push(`<line class="grid" x1="${margin.left}" x2="${width}" y1="${y}" y2="${y}"/>`)
    parts.push(text(margin.left - 6, y + 4, String(10 ** power), 'end'))
  }
  parts.push(text(width / 2, curveHeight - 2, `${xName} → ${yName}`, 'middle'))
  return figure(title, curveHeight, parts.join('\n'))
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
