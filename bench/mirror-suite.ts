import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { GiB, KiB, MiB } from '../src/base/size.ts'
import { atLeast, atMost, type Figure, type Goal } from './figures.ts'
import { measurePairs } from './pairs.ts'
import { runProgram } from './process.ts'
import type { Progress } from './progress.ts'
import { backingExtraBytes, Running } from './servers.ts'
import { messageOf, omit, type Plan } from './suites.ts'
import { leafTree, mirrorTree, target } from './trees.ts'

/** What `mirror-worker.ts` found. */
export interface MirrorFound {
  readonly resyncs: readonly { readonly resync: Spent; readonly plain: Spent }[]
  /** Bytes of the volume. */
  readonly size: number
  /** The most bytes of buffers that a resync held at once, and what its window allows. */
  readonly held: number
  readonly heldBound: number
  readonly sparse: { readonly dirtyBytes: number; readonly copiedBytes: number }
  /** Only of legs in memory: writes of metadata for each extent and leg. */
  readonly cold?: { readonly alone: number; readonly together: number }
  /** Only of legs in memory, for each TiB of the volume: in memory in all, and on each leg. */
  readonly mapBytes?: number
  readonly legBytes?: number
}

interface Spent {
  readonly seconds: number
  readonly cpu: number
}

const suite = 'mirror'
/** Large enough that what begins and ends a resync does not count. */
const volumeBytes = { memory: GiB, file: 512 * MiB, remote: 512 * MiB } as const
/** Seconds of all parts together, roughly. */
export const mirrorSeconds = 75
/** Seconds after which a worker is given up: its server may have gone. */
const workerSeconds = 180
const pairRounds = 6
const resyncRounds = 6

/** What the mirror's memory costs: the intent log, resync, and the room for both. */
export async function measureMirror(plan: Plan, progress: Progress): Promise<Figure[]> {
  const figures: Figure[] = []
  const attempt = async (done: number, what: string, measure: () => Promise<Figure[]>) => {
    progress.at(`${suite}: ${what}`, done * mirrorSeconds)
    try {
      figures.push(...(await measure()))
    } catch (error) {
      omit(plan, `${suite}, ${what}: ${messageOf(error)}`)
    }
  }
  await attempt(0, 'with and without intent log', () => measureIntentLog(plan))
  await attempt(0.4, 'resync, legs in memory', async () => {
    const found = await runWorker(['memory', String(volumeBytes.memory), String(resyncRounds)])
    return [...resyncFigures('memory', found), ...sizeFigures(found)]
  })
  await attempt(0.6, 'resync, legs in files', async () => {
    const folder = mkdtempSync(join(plan.folders.disk, 'resync-'))
    try {
      const parameters = ['file', String(volumeBytes.file), String(resyncRounds), folder]
      return resyncFigures('file', await runWorker(parameters))
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
  await attempt(0.8, 'resync, remote legs', () => measureRemote(plan))
  return figures
}

/** Steady writes to hot extents, the same mirror with and without a log in turn. */
async function measureIntentLog(plan: Plan): Promise<Figure[]> {
  const work = { pattern: 'randwrite', blockSize: 4 * KiB, depth: 32 } as const
  const servers = [
    target(mirrorTree(2), { name: 'with' }),
    target(mirrorTree(2, { intentLog: false }), { name: 'without' }),
  ] as const
  const pairs = await measurePairs(plan, servers, work, pairRounds)
  const values = pairs.map(([log, none]) => log / none)
  return [figure('4 KiB random writes, cpu with ÷ without intent log', '×', values, atMost(1.15))]
}

async function measureRemote(plan: Plan): Promise<Figure[]> {
  const volume = {
    media: 'memory',
    transport: 'unix',
    size: volumeBytes.remote + backingExtraBytes,
  } as const
  const started: Running[] = []
  try {
    for (const name of ['left', 'right']) {
      const server = target(leafTree, { name, protocol: 'dst' })
      started.push(await Running.start(server, volume, plan.folders))
    }
    const uris = started.map(({ uri }) => uri)
    const parameters = ['remote', String(volumeBytes.remote), String(resyncRounds), ...uris]
    return resyncFigures('remote', await runWorker(parameters))
  } finally {
    await Promise.all(started.map((running) => running.stop()))
  }
}

function resyncFigures(legs: string, found: MirrorFound): Figure[] {
  const { resyncs, size, sparse, held, heldBound } = found
  const speed = (spent: Spent): number => size / MiB / spent.seconds
  const of = `(${legs} legs)`
  return [
    figure(
      `resync ÷ plain copy, bytes per second ${of}`,
      '×',
      resyncs.map(({ resync, plain }) => speed(resync) / speed(plain)),
      atLeast(0.8),
    ),
    figure(
      `resync ÷ plain copy, cpu ${of}`,
      '×',
      resyncs.map(({ resync, plain }) => resync.cpu / plain.cpu),
      null,
    ),
    figure(
      `resync ${of}`,
      'MiB/s',
      resyncs.map(({ resync }) => speed(resync)),
      null,
    ),
    figure(
      `resync of a sparse map, bytes copied ÷ dirty ${of}`,
      '×',
      [sparse.copiedBytes / sparse.dirtyBytes],
      atMost(1),
    ),
    // Memory lends its own pages: nothing is held. Sockets need as much again while they fill.
    figure(`buffers held by a resync ${of}`, 'MiB', [held / MiB], atMost((2 * heldBound) / MiB)),
  ]
}

function sizeFigures({ cold, mapBytes, legBytes }: MirrorFound): Figure[] {
  const legs = 2
  const perLeg = mapBytes === undefined ? [] : [mapBytes / legs / MiB]
  const onLeg = legBytes === undefined ? [] : [legBytes / MiB]
  const coldWrites = 'metadata writes for a cold extent and leg'
  return [
    figure(`${coldWrites}, one by one`, '', cold === undefined ? [] : [cold.alone], atMost(1)),
    figure(`${coldWrites}, 32 at once`, '', cold === undefined ? [] : [cold.together], atMost(1)),
    figure('maps and logs in memory, for each TiB and leg', 'MiB', perLeg, atMost(1)),
    figure('maps and logs on a leg, for each TiB', 'MiB', onLeg, null),
  ]
}

function figure(name: string, unit: string, values: readonly number[], goal: Goal | null): Figure {
  return { suite, name, unit, values, goal }
}

async function runWorker(parameters: readonly string[]): Promise<MirrorFound> {
  const words = ['--expose-gc', join(import.meta.dirname, 'mirror-worker.js'), ...parameters]
  const { stdout, failure } = await runProgram(process.execPath, words, workerSeconds)
  if (failure !== null) throw new Error(failure)
  return JSON.parse(stdout) as MirrorFound
}
