import net from 'node:net'
import { GiB, KiB, MiB, TiB } from '../src/base/size.ts'
import type { Bout, Pace } from './run.ts'
import { ourServer } from './report.ts'
import { Running, type Server } from './servers.ts'
import { boutOf, type Plan } from './suites.ts'
import { leafTree, mirrorTree, target, type DeviceConfig, type Tree } from './trees.ts'
import type { Work } from './work.ts'

/** Suites that are curves have this before their name; a point's place is its server's name. */
export const growthPrefix = 'growth with '

const pace: Pace = { rounds: 3, seconds: 0.4, warmUp: 0.6, budget: Infinity }
const unix = { media: 'memory', transport: 'unix' } as const
const reads: Work = { pattern: 'randread', blockSize: 4 * KiB, depth: 32 }
const writes: Work = { pattern: 'randwrite', blockSize: 4 * KiB, depth: 32 }

/** How the cost of an operation grows with one thing at a time. */
export function growthBouts(plan: Plan): Bout[] {
  const small = { ...plan, size: 8 * MiB }
  return [
    curve(small, 'legs', [1, 2, 5, 10, 20, 50, 100, 200], [writes], (legs) =>
      target(mirrorTree(legs), { name: String(legs) }),
    ),
    curve(plan, 'depth of the tree', [1, 2, 3, 4, 5, 6, 7, 8], [reads, writes], (depth) =>
      target(nestedTree(depth), { name: String(depth) }),
    ),
    curve(plan, 'exports', [1, 10, 100, 1000], [reads, writes], (exports) =>
      target(leafTree, { name: String(exports), moreExports: exports - 1 }),
    ),
    ...[GiB, 16 * GiB, 256 * GiB, 4 * TiB, 16 * TiB].map((size) => ({
      ...curve({ ...plan, size }, 'size in GiB', [size / GiB], [reads], (gib) =>
        target(leafTree, { name: String(gib) }),
      ),
      // What is written stays in memory, and what is read costs the same.
      fill: false,
    })),
    ...[1, 10, 100, 1000].map((connections) => ({
      ...boutOf(
        small,
        `${growthPrefix}connections`,
        [{ ...reads, depth: 1, connections }],
        wanted(plan, [target(leafTree, { name: String(connections) })]),
        { media: 'memory', transport: 'tcp' },
        pace,
      ),
      // Each of fio's threads measures from when it is connected, seconds after the first of many.
      client: 'own' as const,
    })),
    ...[1, 4, 16, 64, 256, 1024, 4096].map((depth) =>
      curve(small, 'requests in flight', [depth], [{ ...reads, depth }], () =>
        target(leafTree, { name: String(depth) }),
      ),
    ),
  ]
}

function curve(
  plan: Plan,
  what: string,
  points: readonly number[],
  works: readonly Work[],
  server: (point: number) => Server,
): Bout {
  return boutOf(plan, growthPrefix + what, works, wanted(plan, points.map(server)), unix, pace)
}

/** A point's server has the point's name, but all of them are ours. */
function wanted(plan: Plan, servers: readonly Server[]): readonly Server[] {
  return plan.wantsServer(ourServer) ? servers : []
}

/** A memory under linears of one part each. */
function nestedTree(depth: number): Tree {
  const nest = (levels: number, size: number): DeviceConfig =>
    levels === 1 ? { type: 'memory', size } : { type: 'linear', parts: [nest(levels - 1, size)] }
  return { name: 'nested', backings: [], device: ({ size }) => nest(depth, size) }
}

/** What a target costs that has nothing to do. */
export interface Idle {
  readonly connections: number
  /** Milliseconds of processor time in each second. */
  readonly cpu: number
}

const watchedSeconds = 5
/** Seconds of all of it, roughly. */
export const idleSeconds = 2 * watchedSeconds + 5

/** Measures an idle target without and with a thousand clients that have negotiated. */
export async function measureIdle(plan: Plan): Promise<Idle[]> {
  const server = target(leafTree)
  const running = await Running.start(server, { ...unix, size: plan.size }, plan.folders)
  const sockets: net.Socket[] = []
  try {
    const results: Idle[] = []
    for (const connections of [0, 1000]) {
      // One after the other: a listener's queue is shorter than this.
      while (sockets.length < connections) sockets.push(await connectIdle(running.place.socket!))
      // What starting and negotiating left to do, such as collecting garbage, is not idling.
      await sleep(1000)
      const before = running.usage()
      await sleep(watchedSeconds * 1000)
      const used = running.cpuBetween(before, running.usage())
      if (running.failure !== null) throw new Error(running.failure)
      if (sockets.some(({ closed }) => closed)) throw new Error('idle connections were closed')
      results.push({ connections, cpu: used / 1e6 / watchedSeconds })
    }
    return results
  } finally {
    for (const socket of sockets) socket.destroy()
    await running.stop()
  }
}

/** Bytes of NBD's greeting, and of the answer to EXPORT_NAME: size, flags and nothing more. */
const greetingBytes = 18
const answerBytes = 10
/** Milliseconds within which a server has to say each of them. */
const connectTimeout = 10_000

/** Negotiates as an NBD client and falls silent. */
function connectIdle(path: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path)
    let bytes = 0
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the server has closed the connection')))
    socket.setTimeout(connectTimeout, () => reject(new Error('the server does not answer')))
    socket.on('data', (chunk) => {
      const before = bytes
      bytes += chunk.length
      if (before < greetingBytes && bytes >= greetingBytes) socket.write(askForExport('bench'))
      if (bytes < greetingBytes + answerBytes) return
      socket.setTimeout(0)
      resolve(socket)
    })
  })
}

/** The client's flags (fixed newstyle, no zeroes), then the option EXPORT_NAME. */
function askForExport(name: string): Buffer {
  const bytes = Buffer.alloc(4 + 16 + name.length)
  bytes.writeUInt32BE(3, 0)
  bytes.write('IHAVEOPT', 4, 'latin1')
  bytes.writeUInt32BE(1, 12)
  bytes.writeUInt32BE(name.length, 16)
  bytes.write(name, 20, 'latin1')
  return bytes
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
