import { KiB, MiB } from '../../src/base/size.ts'
import { findProgram } from '../../test/support/programs.ts'
import { ownClient } from '../clients/own.ts'
import { messageOf } from '../servers/process.ts'
import type { Options } from '../options.ts'
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

/** What the parts of a run are told. */
export interface Plan extends Options {
  readonly folders: Folders
  /** The share of its processor time that our target wastes, to see whether that is found. */
  readonly slowdown?: number
  /** Gets what is left out, and why. */
  readonly omitted: string[]
}

export function wantsWork({ only }: Plan, work: Work): boolean {
  return only.length === 0 || only.some((part) => nameOf(work).includes(part))
}

export function wantsServer({ servers }: Plan, { name }: Server): boolean {
  return servers.length === 0 || servers.includes(name)
}

/** A quick run's peers take less than a minute; each suite of a full run has its own pace. */
const paces = {
  quick: { rounds: 6, seconds: 0.25, warmUp: 0.6, budget: 55 },
  peers: { rounds: 5, seconds: 1, warmUp: 1.5, budget: Infinity },
  memory: { rounds: 2, seconds: 2, warmUp: 0, budget: Infinity },
  protocols: { rounds: 3, seconds: 0.5, warmUp: 1, budget: Infinity },
} as const satisfies Record<string, Pace>

/** Where most is measured. */
export const unix = { media: 'memory', transport: 'unix' } as const

/** The same volume served by everyone, in turn. */
export function peersBouts(plan: Plan): Bout[] {
  const pace = plan.quick ? paces.quick : paces.peers
  const servers = serversOf(plan, leafTree, plan.quick ? [nbdkit, pump] : [nbdkit, qemuNbd, pump])
  const bouts = [boutOf(plan, 'peers', goalWorks, servers, unix, pace)]
  if (plan.quick) return bouts
  return [
    ...bouts,
    boutOf(plan, 'peers', goalWorks, servers, { ...unix, transport: 'tcp' }, pace),
    boutOf(plan, 'peers', goalWorks, servers, { ...unix, media: 'file' }, pace),
    quorumBout(plan, [pump], pace),
  ]
}

export const quorumSuite = 'mirror of two nbd'

/** A mirror of two `nbd` legs and QEMU's quorum over the same: two nbdkits in memory each. */
export function quorumBout(plan: Plan, others: readonly Server[], pace: Pace): Bout {
  const legs = [nbdkit, nbdkit]
  const servers = serversOf(plan, mirrorOver(quorumSuite, legs), [quorum(legs), ...others])
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
    [mirrorTree, 'memory'],
  ]
  return trees.map(([tree, media]) => {
    const servers = [target(tree)].filter((one) => wantsServer(plan, one))
    const where = { ...unix, media }
    const small = { ...plan, size: floodBytes }
    return boutOf(small, `${memorySuite}, ${tree.name}`, works, servers, where, paces.memory)
  })
}

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
  ].filter((one) => wantsServer(plan, one))
  return transports.map((transport) => ({
    ...boutOf(plan, 'DST/1 and NBD', goalWorks, servers, { ...unix, transport }, pace),
    client: ownClient,
  }))
}

/** Our target, the same of another version if there is one, and the others that are installed. */
export function serversOf(plan: Plan, tree: Tree, others: readonly Server[]): Server[] {
  const ours = [target(tree)]
  if (plan.against !== null) ours.push(target(tree, { name: otherServer, root: plan.against }))
  return [...ours, ...others].filter((server) => {
    const { name, program } = server
    if (!wantsServer(plan, server)) return false
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
  const wanted = works.filter((work) => wantsWork(plan, work))
  if (wanted.length === 0) omit(plan, `${suite}, ${setting}: none of its work was asked for`)
  if (servers.length === 0) omit(plan, `${suite}, ${setting}: none of its servers was asked for`)
  let rounds = 0
  return {
    suite,
    setting,
    works: wanted,
    client: null,
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
