import { renameSync, writeFileSync } from 'node:fs'
import { AllocationCounter, probeVariable } from './allocations.ts'

/**
 * Loaded into a server with `node --import`: SIGUSR2 starts counting allocations, the next one ends
 * it. Each is answered by making a file, with what was counted as JSON.
 */
const path = process.env[probeVariable]!
const counter = new AllocationCounter()
let counting = false
process.on('SIGUSR2', () => {
  counting = !counting
  if (counting) counter.start()
  const text = counting ? '{}' : JSON.stringify(counter.stop())
  // Whoever waits for the file sees all of it.
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
})
