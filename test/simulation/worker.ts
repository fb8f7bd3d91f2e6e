import { KiB } from '../../src/base/size.ts'
import { play, Plays } from './crash-points.ts'
import { runSeed, type Outcome } from './run.ts'
import type { Order } from './workers.ts'

// Most buffers are parts of larger ones: memory of their own is dear to allocate, and to collect.
Buffer.poolSize = 256 * KiB

/** Of the scripts that are played, once they are asked for. */
let plays: { readonly what: string; readonly list: Promise<Plays> } | null = null

async function carryOut({ kind, only, blow }: Order, number: number): Promise<Outcome> {
  if (kind === 'seeds') return runSeed(number)
  const what = `${only}; ${blow}`
  if (plays?.what !== what) plays = { what, list: Plays.of(only, blow) }
  const list = await plays.list
  const chosen = kind === 'pairs' ? list.pair(number) : list.single(number)
  return { ...(await play(chosen)), seed: number }
}

/** Runs what it is told to, one after the other, and reports each. */
async function obey(order: Order): Promise<void> {
  for (let at = 0; at < order.count; at++) {
    const number = order.from + at * order.step
    const outcome = await carryOut(order, number)
    if (order.repeat && outcome.problem === null) {
      const again = await carryOut(order, number)
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
