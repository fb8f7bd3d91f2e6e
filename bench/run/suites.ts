import { KiB, MiB } from '../../src/base/size.ts'
import { findProgram } from '../servers/process.ts'
import type { Bout, Pace } from './run.ts'
import {
  nbdkit,
  pump,
  qemuNbd,
  quorum,
  Running,
  type Folders,
  type Media,
  type Server,
  type Transport,
  type Volume,
} from '../servers/servers.ts'
import { leafTree, mirrorOver, mirrorTree, target, type Tree } from '../servers/trees.ts'
import { nameOf, type Work } from '../clients/work.ts'

/** Another version of this project that is measured in turn with this one. */
export const otherServer = 'other'

/** The rows that the goals are about. */
export const goalWorks: readonly Work[] = [
  { pattern: 'randread', blockSize: 4 * KiB, depth: 32 },
  { pattern: 'randwrite', blockSize: 4 * KiB, depth: 32 },
  { pattern: 'randread', blockSize: 4 * KiB, depth: 1 },
  { pattern: 'randwrite', blockSize: 4 * KiB, depth: 1 },
  { pattern: 'read', blockSize: 128 * KiB, depth: 32 },
  { pattern: 'write', blockSize: 128 * KiB, depth: 32 },
  { pattern: 'read', blockSize: MiB, depth: 32 },
  { pattern: 'write', blockSize: MiB, depth: 32 },
]

/** What the suites are told. */
export interface Plan {
  readonly quick: boolean
  /** Bytes of each volume. */
  readonly size: number
  readonly folders: Folders
  /** Whether a work of this name is wanted, and a server. */
  readonly wantsWork: (name: string) => boolean
  readonly wantsServer: (name: string) => boolean
  /** What was asked for in place of a suite's own pace. */
  readonly pace: Partial<Pace>
  /** The folder of another version of this project to run in turn; null for none. */
  readonly against: string | null
  /** Gets what is left out, and why. */
  readonly omitted: string[]
}

/** A quick run's peers take less than a minute; each suite of a full run has its own pace. */
const paces = {
  quick: { rounds: 6, seconds: 0.25, warmUp: 0.6, budget: 55 },
  peers: { rounds: 5, seconds: 1, warmUp: 1.5, budget: Infinity },
  memory: { rounds: 2, seconds: 2, warmUp: 0, budget: Infinity },
  protocols: { rounds: 3, seconds: 0.5, warmUp: 1, budget: Infinity },
} as const satisfies Record<string, Pace>

/** The same volume served by everyone, in turn. */
export function peersBouts(plan: Plan): Bout[] {
  const pace = plan.quick ? paces.quick : paces.peers
  const servers = serversOf(plan, leafTree, plan.quick ? [nbdkit, pump] : everyone)
  const unix = { media: 'memory', transport: 'unix' } as const
  const bouts = [boutOf(plan, 'peers', goalWorks, servers, unix, pace)]
  if (plan.quick) return bouts
  return [
    ...bouts,
    boutOf(plan, 'peers', goalWorks, servers, { media: 'memory', transport: 'tcp' }, pace),
    boutOf(plan, 'peers', goalWorks, servers, { media: 'file', transport: 'unix' }, pace),
    quorumBout(plan, [pump], pace),
  ]
}

const everyone: readonly Server[] = [nbdkit, qemuNbd, pump]

export const quorumSuite = 'mirror of two nbd'

/** A mirror of two `nbd` legs and QEMU's quorum over the same: two nbdkits in memory each. */
export function quorumBout(plan: Plan, others: readonly Server[], pace: Pace): Bout {
  const legs = [nbdkit, nbdkit]
  const servers = serversOf(plan, mirrorOver(quorumSuite, legs), [quorum(legs), ...others])
  const unix = { media: 'memory', transport: 'unix' } as const
  return boutOf(plan, quorumSuite, goalWorks, servers, unix, pace)
}

/** A row fills all memory that clients may have in flight; the figure is the peak of the rows. */
const flood = { blockSize: MiB, depth: 32, connections: 64 } as const
const floodBytes = 64 * MiB
export const memorySuite = 'memory of the target'

/** The most memory that a target takes, the volume included where that is in memory. */
export function memoryBouts(plan: Plan): Bout[] {
  const works = (['read', 'write'] as const).map((pattern) => ({ ...flood, pattern }))
  const trees: readonly (readonly [Tree, Media])[] = [
    [leafTree, 'file'],
    [leafTree, 'memory'],
    [mirrorTree(2), 'memory'],
  ]
  return trees.map(([tree, media]) => {
    const servers = [target(tree)].filter(({ name }) => plan.wantsServer(name))
    const where = { media, transport: 'unix' } as const
    const small = { ...plan, size: floodBytes }
    return boutOf(small, `${memorySuite}, ${tree.name}`, works, servers, where, paces.memory)
  })
}

export const protocolSuite = 'DST/1 and NBD'
export const nbdServerName = 'dst over NBD'

/** DST/1 and NBD on the same device, driven by our own client. */
export function protocolBouts(
  plan: Plan,
  transports: readonly Transport[] = ['unix', 'tcp'],
  pace: Pace = paces.protocols,
): Bout[] {
  const servers = [
    target(leafTree, { protocol: 'dst' }),
    target(leafTree, { name: nbdServerName }),
  ].filter(({ name }) => plan.wantsServer(name))
  return transports.map((transport) => ({
    ...boutOf(plan, protocolSuite, goalWorks, servers, { media: 'memory', transport }, pace),
    client: 'own' as const,
  }))
}

/** Our target, the same of another version if there is one, and the others that are installed. */
export function serversOf(plan: Plan, tree: Tree, others: readonly Server[]): Server[] {
  const ours = [target(tree)]
  if (plan.against !== null) ours.push(target(tree, { name: otherServer, root: plan.against }))
  return [...ours, ...others].filter(({ name, program }) => {
    if (!plan.wantsServer(name)) return false
    if (program === null || findProgram(program) !== null) return true
    omit(plan, `${name}: ${program} is not installed`)
    return false
  })
}

export function boutOf(
  plan: Plan,
  suite: string,
  works: readonly Work[],
  servers: readonly Server[],
  where: Omit<Volume, 'size'>,
  pace: Pace,
): Bout {
  const volume: Volume = { ...where, size: plan.size }
  const setting = `${where.media} over ${where.transport}`
  const wanted = works.filter((work) => plan.wantsWork(nameOf(work)))
  if (wanted.length === 0) omit(plan, `${suite}, ${setting}: none of its work was asked for`)
  if (servers.length === 0) omit(plan, `${suite}, ${setting}: none of its servers was asked for`)
  let rounds = 0
  return {
    suite,
    setting,
    works: wanted,
    fill: true,
    client: 'fio',
    servers: servers.length,
    pace: { ...pace, ...plan.pace },
    start: async () => {
      const started: Running[] = []
      // By turns: the file of the first is being written back while the others' are filled.
      const first = rounds++ % servers.length
      for (const server of [...servers.slice(first), ...servers.slice(0, first)])
        try {
          started.push(await Running.start(server, volume, plan.folders))
        } catch (error) {
          omit(plan, `${suite}, ${server.name}: ${messageOf(error)}`)
        }
      return started.sort((a, b) => servers.indexOf(a.server) - servers.indexOf(b.server))
    },
    omit: (what, error) => omit(plan, `${suite}, ${what}: ${messageOf(error)}`),
  }
}

export function omit(plan: Pick<Plan, 'omitted'>, what: string): void {
  if (!plan.omitted.some((one) => samePlace(one) === samePlace(what))) plan.omitted.push(what)
}

/** Each round has new folders: a server that never starts is to be named once. */
function samePlace(what: string): string {
  return what.replaceAll(/server-\w{6}/g, 'server')
}

/** Says that `onOneProcessor` could not do what it is for. */
export function omitPlacement(plan: Pick<Plan, 'omitted'>, suite: string): void {
  omit(plan, notPlaced(suite))
}

/** Whether a suite of a report was kept on one processor, by what was left out. */
export function wasPlaced(omitted: readonly string[], suite: string): boolean {
  return !omitted.includes(notPlaced(suite))
}

function notPlaced(suite: string): string {
  return `${suite}: not on one processor, for want of taskset: these figures are noisier`
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}
