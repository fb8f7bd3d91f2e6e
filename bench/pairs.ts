import { MiB } from '../src/base/size.ts'
import { onOneProcessor } from './affinity.ts'
import { fillVolume } from './own.ts'
import { Running, type Server, type Volume } from './servers.ts'
import { quantile } from './stats.ts'
import { omitPlacement, type Plan } from './suites.ts'
import { Volley } from './volley.ts'
import type { Work } from './work.ts'

/** Milliseconds of a slice, slices of each in a round, and of work before those. */
const sliceMilliseconds = 20
const slices = 24
const warmUpMilliseconds = 400
/** The cheap end of the slices: what else the machine does makes them dearer, never cheaper. */
const cheap = 0.2

/** One of two servers, and the volume that it serves. */
export interface Side {
  readonly server: Server
  readonly volume: Volume
}

export const smallVolume: Volume = { media: 'memory', transport: 'unix', size: 64 * MiB }

/**
 * What one operation costs two servers in turn, nanoseconds of processor time, with new processes
 * for each round, all on one processor. `fill` writes their volumes before.
 */
export function measurePairs(
  plan: Plan,
  sides: readonly [Server | Side, Server | Side],
  work: Work,
  rounds: number,
  fill = true,
): Promise<[number, number][]> {
  const both = sides.map((side) =>
    'volume' in side ? side : { server: side, volume: smallVolume },
  )
  return onOneProcessor(
    async () => {
      const results: [number, number][] = []
      for (let round = 0; round < rounds; round++) {
        // Now the one first, now the other: what is started later finds memory in another state.
        const order = round % 2 === 0 ? [0, 1] : [1, 0]
        const costs = await measureRound(
          plan,
          order.map((at) => both[at]!),
          work,
          fill,
        )
        results.push([costs[order[0]!]!, costs[order[1]!]!])
      }
      return results
    },
    () => omitPlacement(plan, 'pairs in turn'),
  )
}

/** One round: a cost for each side, in order. */
async function measureRound(
  plan: Plan,
  sides: readonly Side[],
  work: Work,
  fill: boolean,
): Promise<number[]> {
  const started: { running: Running; client: Volley; costs: number[] }[] = []
  try {
    for (const { server, volume } of sides) {
      const running = await Running.start(server, volume, plan.folders)
      const client = await connected(running)
      started.push({ running, client, costs: [] })
      if (fill) await fillVolume(running.uri)
      await client.run(work, warmUpMilliseconds)
    }
    for (let slice = 0; slice < slices; slice++)
      for (const { running, client, costs } of slice % 2 === 0 ? started : started.toReversed()) {
        const before = running.usage()
        const operations = await client.run(work, sliceMilliseconds)
        costs.push(running.cpuBetween(before, running.usage()) / operations)
      }
    return started.map(({ costs }) => quantile(costs, cheap))
  } finally {
    for (const { client } of started) client.close()
    await Promise.all(started.map(({ running }) => running.stop()))
  }
}

/** A client of a server that was just started; the server ends when there is none. */
export async function connected(running: Running): Promise<Volley> {
  try {
    return await Volley.connect(running.uri)
  } catch (error) {
    await running.stop()
    throw error
  }
}
