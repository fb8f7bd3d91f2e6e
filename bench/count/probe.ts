import { renameSync, writeFileSync } from 'node:fs'
import { AllocationCounter } from './allocations.ts'
import { CopyCounter } from './copies.ts'
import { probeVariable, type Probed } from './probes.ts'

/**
 * Loaded into a server with `node --import`. SIGUSR2 starts counting allocations, the next one ends
 * that and starts counting copies, the third ends it all. Each is answered by making a file; the
 * last two say in it, as JSON, what was counted.
 */
const path = process.env[probeVariable]!
const allocations = new AllocationCounter()
const copies = new CopyCounter()

const steps: readonly (() => Probed)[] = [
  () => {
    allocations.start()
    return {}
  },
  () => {
    const counted = allocations.stop()
    copies.start()
    return { allocations: counted }
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
