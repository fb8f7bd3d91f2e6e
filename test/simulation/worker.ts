import { runSeed } from './run.ts'
import type { Order } from './workers.ts'

/** Runs the seeds it is told to, one after the other, and reports each. */
async function obey({ from, count, repeat }: Order): Promise<void> {
  for (let seed = from; seed < from + count; seed++) {
    const outcome = await runSeed(seed)
    if (repeat && outcome.problem === null) {
      const again = await runSeed(seed)
      if (again.fingerprint !== outcome.fingerprint) {
        process.send!({ ...again, problem: 'a second run of the same seed went another way' })
        continue
      }
    }
    process.send!(outcome)
  }
}

process.on('message', (order) => void obey(order as Order))
// The parent is gone: nobody would ever know.
process.on('disconnect', () => process.exit(1))
