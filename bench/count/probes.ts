import type { Allocations } from './allocations.ts'

/** Variables of the environment that tell what is loaded into a server with `node --import`. */

/** For `probe.ts`: the file that it writes to. */
export const probeVariable = 'DST_BENCH_PROBE'
/** For `plant.ts`: the share of the processor time to waste, 0.15 for 15 %. */
export const plantVariable = 'DST_BENCH_PLANT'

/** What the probe writes. */
export interface Probed {
  readonly allocations?: Allocations
  /** Bytes copied in user space. */
  readonly copied?: number
}
