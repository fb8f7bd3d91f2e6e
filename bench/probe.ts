import { writeFileSync } from 'node:fs'
import { AllocationCounter } from './allocations.ts'

/**
 * Loaded into a server with `node --import`: the first SIGUSR2 starts counting allocations, the
 * next one writes what was counted to the file that DST_BENCH_PROBE names, as JSON.
 */
const path = process.env['DST_BENCH_PROBE']!
const counter = new AllocationCounter()
let counting = false
process.on('SIGUSR2', () => {
  counting = !counting
  if (counting) counter.start()
  else writeFileSync(path, JSON.stringify(counter.stop()))
})
