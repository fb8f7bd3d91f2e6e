import { MiB } from '../src/base/size.ts'
import { atMost, type Figure } from './figures.ts'
import type { Client } from './fio.ts'
import { fillVolume } from './own.ts'
import type { Progress } from './progress.ts'
import { Running, type Media } from './servers.ts'
import { messageOf, omit, type Plan } from './suites.ts'
import { leafTree, mirrorTree, target, type Tree } from './trees.ts'

const suite = 'memory'
/** All that clients may have in flight together, and more. */
const load = { blockSize: MiB, depth: 32, connections: 64 } as const
const seconds = 4
const volumeBytes = 64 * MiB
const boundBytes = 512 * MiB
/** Seconds of all parts together, roughly. */
export const memorySeconds = 50

const cases: readonly (readonly [name: string, tree: Tree, media: Media])[] = [
  ['file', leafTree, 'file'],
  ['memory of 64 MiB', leafTree, 'memory'],
  ['mirror of two', mirrorTree(2), 'memory'],
]

/**
 * The largest resident memory of the target's process with 64 clients that keep 32 requests of
 * 1 MiB each in flight; all of it, the volume included where that is in memory.
 */
export async function measureMemory(
  plan: Plan,
  client: Client,
  progress: Progress,
): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const [at, [name, tree, media]] of cases.entries()) {
    progress.at(`${suite}: ${name}`, (memorySeconds * at) / cases.length)
    try {
      figures.push(...(await measureCase(plan, client, name, tree, media)))
    } catch (error) {
      omit(plan, `${suite}, ${name}: ${messageOf(error)}`)
    }
  }
  return figures
}

async function measureCase(
  plan: Plan,
  client: Client,
  name: string,
  tree: Tree,
  media: Media,
): Promise<Figure[]> {
  const volume = { media, transport: 'unix', size: volumeBytes } as const
  const running = await Running.start(target(tree), volume, plan.folders)
  const what = `64 connections × 32 × 1 MiB, ${name}`
  const figures: Figure[] = []
  try {
    await fillVolume(running.uri)
    for (const pattern of ['read', 'write'] as const) {
      const [seen] = await client.drive([running.uri], { ...load, pattern }, seconds)
      if (running.failure !== null) throw new Error(running.failure)
      if (seen === undefined || seen instanceof Error) throw seen ?? new Error('nothing was seen')
      const speed = seen.bytes / seen.seconds / MiB
      figures.push({
        suite,
        name: `${what}, ${pattern}`,
        unit: 'MiB/s',
        values: [speed],
        goal: null,
      })
    }
    const peak = running.usage().peakBytes / MiB
    const goal = atMost(boundBytes / MiB)
    figures.push({ suite, name: `${what}, resident at most`, unit: 'MiB', values: [peak], goal })
  } finally {
    await running.stop()
  }
  return figures
}
