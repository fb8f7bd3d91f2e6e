import { renameSync, writeFileSync } from 'node:fs'
import { startAllocations, stopAllocations, type Allocations } from './allocations.ts'
import { CopyCounter } from './copies.ts'

/** What the probe writes. */
export interface Probed {
  readonly allocations?: Allocations
  /** Bytes copied in user space. */
  readonly copied?: number
}

/**
 * Loaded into a server with `node --import`, as `probe.js?FILE`. SIGUSR2 starts counting
 * allocations, the next one ends that and starts counting copies, the third ends it all. Each is
 * answered by making the file; after the last two it holds what was counted, as JSON.
 */
const path = decodeURIComponent(new URL(import.meta.url).search.slice(1))
const copies = new CopyCounter()

const steps: readonly (() => Probed)[] = [
  () => {
    startAllocations()
    return {}
  },
  () => {
    const allocations = stopAllocations()
    copies.start()
    return { allocations }
  },
  () => ({ copied: copies.stop() }),
]
let next = 0

process.on('SIGUSR2', () => {
  const said = steps[next]!()
  next = (next + 1) % steps.length
  // Whoever waits for the file sees all of it.
  writeFileSync(`${path}.new`, JSON.stringify(said))
  renameSync(`${path}.new`, path)
})
