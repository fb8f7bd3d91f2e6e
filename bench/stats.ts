import type { Random } from '../src/base/random.ts'

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Linear between the two nearest ranks; `fraction` from 0 to 1. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * fraction
  const below = sorted[Math.floor(at)] ?? NaN
  const above = sorted[Math.ceil(at)] ?? NaN
  return below + (above - below) * (at - Math.floor(at))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** A ratio with its spread over the rounds. */
export interface Spread {
  readonly middle: number
  readonly low: number
  readonly high: number
}

/** Round by round `ours[i] / theirs[i]`: the median, and the smallest and largest. */
export function pairedRatio(ours: readonly number[], theirs: readonly number[]): Spread {
  const ratios = ours.slice(0, theirs.length).map((value, at) => value / theirs[at]!)
  return { middle: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) }
}

/** Interval that holds the median of `values` with `confidence`, by resampling (Efron 1979). */
export function bootstrap(
  values: readonly number[],
  confidence: number,
  random: Random,
  resamples = 2000,
): Spread {
  const medians: number[] = []
  for (let n = 0; n < resamples; n++)
    medians.push(median(values.map(() => values[Math.floor(random.fraction() * values.length)]!)))
  const tail = (1 - confidence) / 2
  return {
    middle: median(values),
    low: quantile(medians, tail),
    high: quantile(medians, 1 - tail),
  }
}

/**
 * How likely it is to see means as far apart as these when the mean behind `after` exceeds the one
 * behind `before` by no more than `margin`: Welch's test, one-sided. 1 with fewer than two values.
 */
export function welch(before: readonly number[], after: readonly number[], margin: number): number {
  if (before.length < 2 || after.length < 2) return 1
  const a = variance(before) / before.length
  const b = variance(after) / after.length
  const difference = mean(after) - mean(before) - margin
  if (a + b === 0) return difference > 0 ? 0 : 1
  const freedom = (a + b) ** 2 / (a ** 2 / (before.length - 1) + b ** 2 / (after.length - 1))
  return studentTail(difference / Math.sqrt(a + b), freedom)
}

function variance(values: readonly number[]): number {
  const middle = mean(values)
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1)
}

/** The chance that Student's t with so many degrees of freedom exceeds `t`. */
export function studentTail(t: number, freedom: number): number {
  const half = 0.5 * incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5)
  return t > 0 ? half : 1 - half
}

/**
 * The regularised incomplete beta function by its continued fraction, evaluated as Lentz (1976)
 * does; the symmetry keeps it where it converges fast (Abramowitz and Stegun 26.5.8).
 */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a)
  const front = Math.exp(
    a * Math.log(x) + b * Math.log(1 - x) + logGamma(a + b) - logGamma(a) - logGamma(b),
  )
  const tiny = 1e-300
  let c = 1
  let d = 1 / nonZero(1 - ((a + b) * x) / (a + 1), tiny)
  let value = d
  for (let m = 1; m < 200; m++) {
    for (const term of [
      (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
      (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
    ]) {
      d = 1 / nonZero(1 + term * d, tiny)
      c = nonZero(1 + term / c, tiny)
      value *= c * d
    }
    if (Math.abs(c * d - 1) < 1e-12) break
  }
  return (front * value) / a
}

function nonZero(value: number, tiny: number): number {
  return Math.abs(value) < tiny ? tiny : value
}

/** Stirling's series, after moving the argument to where it is exact enough. */
function logGamma(x: number): number {
  let shift = 0
  for (; x < 10; x++) shift += Math.log(x)
  const square = x * x
  const series = 1 / (12 * x) - 1 / (360 * x * square) + 1 / (1260 * x * square * square)
  return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series - shift
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
