export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2
}

/** A figure with its spread over the rounds. */
export interface Spread {
  readonly middle: number
  readonly low: number
  readonly high: number
}

/** The median, and the smallest and largest. */
export function spreadOf(values: readonly number[]): Spread {
  return { middle: median(values), low: Math.min(...values), high: Math.max(...values) }
}

/** A mean and how sure it is. */
export interface Estimate {
  readonly mean: number
  /** The square of its standard error. */
  readonly squaredError: number
  readonly freedom: number
}

/** Of all values, this share is left out at either end. */
const trimmedShare = 0.2

/**
 * The mean without the largest and smallest fifth of the values, with the error that follows from
 * their winsorized variance (Yuen 1974): one wild value moves neither. Needs two values.
 */
export function trimmedMean(values: readonly number[]): Estimate {
  const sorted = [...values].sort((a, b) => a - b)
  const cut = Math.floor(trimmedShare * sorted.length)
  const kept = sorted.slice(cut, sorted.length - cut)
  const low = kept[0]!
  const high = kept[kept.length - 1]!
  const winsorized = sorted.map((value) => Math.min(high, Math.max(low, value)))
  const freedom = kept.length - 1
  const squaredError =
    ((sorted.length - 1) * variance(winsorized)) / (kept.length * Math.max(1, freedom))
  return { mean: mean(kept), squaredError, freedom }
}

/** `after` less `before`, of samples that have nothing to do with each other (Welch 1947). */
export function difference(before: Estimate, after: Estimate): Estimate {
  const squaredError = before.squaredError + after.squaredError
  const share = ({ squaredError: error, freedom }: Estimate): number => error ** 2 / freedom
  const freedom = squaredError === 0 ? Infinity : squaredError ** 2 / (share(before) + share(after))
  return { mean: after.mean - before.mean, squaredError, freedom }
}

/**
 * How likely an estimate as large as this is when what it estimates is no larger than `margin`.
 * `extra` is the square of an error that the values cannot show. 1 when there are too few values.
 */
export function chanceOf(estimate: Estimate, margin: number, extra = 0): number {
  if (!(estimate.freedom > 0)) return 1
  const above = estimate.mean - margin
  const squaredError = estimate.squaredError + extra
  if (squaredError === 0) return above > 0 ? 0 : 1
  // What is known well has no share in the uncertainty of the error.
  const freedom =
    estimate.freedom * (squaredError / Math.max(estimate.squaredError, squaredError / 1e6)) ** 2
  return studentTail(above / Math.sqrt(squaredError), freedom)
}

function variance(values: readonly number[]): number {
  const middle = mean(values)
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1)
}

const freedomMax = 1e6

/**
 * The chance that Student's t with so many degrees of freedom exceeds `t`. With t = √f·tan θ its
 * density is cos θ to the power f − 1: the chance is one area under that curve ÷ another.
 */
export function studentTail(t: number, degrees: number): number {
  // More of them make no difference, and values that are all alike have no end of them.
  const freedom = Math.min(degrees, freedomMax)
  const end = Math.min(Math.PI / 2, thetaMax / Math.sqrt(freedom))
  const from = Math.min(end, Math.atan(Math.abs(t) / Math.sqrt(freedom)))
  const tail = (0.5 * area(from, end, freedom - 1)) / area(0, end, freedom - 1)
  return t > 0 ? tail : 1 - tail
}

/** Parts of the area, and how far it reaches, in widths of the curve's peak: nothing is beyond. */
const parts = 200
const thetaMax = 12

/** Under a power of the cosine, by Simpson's rule. */
function area(from: number, to: number, power: number): number {
  const step = (to - from) / parts
  let sum = 0
  for (let n = 0; n <= parts; n++) {
    const weight = n === 0 || n === parts ? 1 : n % 2 === 0 ? 2 : 4
    sum += weight * Math.max(0, Math.cos(from + n * step)) ** power
  }
  return (sum * step) / 3
}

/** Which hypotheses stay rejected when all are tested at once at `level` (Holm 1979). */
export function holm(chances: readonly number[], level: number): boolean[] {
  const order = chances.map((_, at) => at).sort((a, b) => chances[a]! - chances[b]!)
  const rejected = chances.map(() => false)
  for (const [rank, at] of order.entries()) {
    if (chances[at]! > level / (chances.length - rank)) break
    rejected[at] = true
  }
  return rejected
}
