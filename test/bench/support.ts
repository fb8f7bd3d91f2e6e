import type { Report } from '../../bench/report/report.ts'
import type { Round } from '../../bench/clients/work.ts'
import { SeededRandom } from '../support/seeded.ts'

/** A normal variate by Box and Muller (1958). */
export function normal(random: SeededRandom): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()))
  return radius * Math.cos(2 * Math.PI * random.fraction())
}

/** A round of a million operations of 4 KiB in a second, `cost` microseconds each. */
export function roundOf(round: number, cost: number): Round {
  const operations = 1e6
  const unknown = { p50: null, p99: null, p999: null }
  const bytes = operations * 4096
  return { round, operations, bytes, seconds: 1, ...unknown, cpu: cost * 1e9, peakBytes: 0 }
}

export const emptyReport: Report = {
  version: 2,
  started: '',
  seconds: 0,
  machine: {
    processor: '',
    cores: 2,
    memoryBytes: 0,
    kernel: '',
    node: '',
    commit: '',
    loadBefore: 0,
    programs: {},
  },
  parameters: [],
  against: null,
  omitted: [],
  rows: [],
  allocations: [],
}
