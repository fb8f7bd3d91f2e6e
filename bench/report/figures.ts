import { spreadOf, type Spread } from '../compare/stats.ts'

/** What a figure has to be, in its unit. */
export interface Goal {
  readonly kind: 'at most' | 'at least'
  readonly value: number
}

/** One thing that was found out, with a value for each round. */
export interface Figure {
  /** What it belongs to. */
  readonly suite: string
  readonly name: string
  /** `×` for ratios. */
  readonly unit: string
  readonly values: readonly number[]
  readonly goal: Goal | null
}

/** Short for a goal that something is to stay below, and one that it is to reach. */
export function atMost(value: number): Goal {
  return { kind: 'at most', value }
}

export function atLeast(value: number): Goal {
  return { kind: 'at least', value }
}

/** Whether the median of the rounds reaches the goal; null without a goal or without values. */
export function isMet({ values, goal }: Figure): boolean | null {
  if (goal === null || values.length === 0) return null
  const { middle } = spreadOf(values)
  return goal.kind === 'at most' ? middle <= goal.value : middle >= goal.value
}

export const figureColumns = ['what', 'unit', 'goal', 'median (lowest–highest)', ''] as const

/** The cells of a figure under `figureColumns`. */
export function figureCells(figure: Figure): string[] {
  const { name, unit, goal, values } = figure
  const met = isMet(figure)
  return [
    name,
    unit,
    goal === null ? '' : `${goal.kind === 'at most' ? '≤' : '≥'} ${describe(goal.value)}`,
    values.length === 0 ? 'not measured' : describeSpread(spreadOf(values)),
    met === null ? '' : met ? 'met' : 'MISSED',
  ]
}

export function describeSpread({ middle, low, high }: Spread): string {
  return `${describe(middle)} (${describe(low)}–${describe(high)})`
}

/** Three digits that count. */
function describe(value: number): string {
  const size = Math.abs(value)
  return value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 0.095 ? 2 : 3)
}
