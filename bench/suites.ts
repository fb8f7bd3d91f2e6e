import { KiB, MiB } from '../src/base/size.ts'
import { findProgram } from './process.ts'
import type { Bout } from './run.ts'
import {
  nbdkit,
  nbdkitNull,
  nbdServer,
  pump,
  qemuNbd,
  quorum,
  Running,
  type Folders,
  type Server,
  type Volume,
} from './servers.ts'
import {
  bridgeTree,
  leafTree,
  linearTree,
  mirrorOver,
  mirrorTree,
  target,
  type Tree,
} from './trees.ts'
import { allWork, nameOf, type Work } from './work.ts'

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
  /** The folder of another version of this project to run in turn; null for none. */
  readonly against: string | null
  /** Gets what is left out, and why. */
  readonly omitted: string[]
}

/** The same volume served by everyone, in turn. */
export function peersBouts(plan: Plan): Bout[] {
  const legs = [nbdkit, nbdkit]
  const memory = serversOf(plan, leafTree, plan.quick ? [nbdkit, pump] : everyone)
  const bouts = [boutOf(plan, 'peers', goalWorks, memory, { media: 'memory', transport: 'unix' })]
  if (plan.quick) return bouts
  const file = serversOf(plan, leafTree, [nbdkit, qemuNbd, nbdServer, pump])
  const mirror = mirrorOver('mirror of two nbd', 'nbd', legs)
  return [
    ...bouts,
    boutOf(plan, 'peers', goalWorks, memory, { media: 'memory', transport: 'tcp' }),
    boutOf(plan, 'peers', goalWorks, file, { media: 'file', transport: 'unix' }),
    boutOf(plan, 'mirror of two nbd', goalWorks, serversOf(plan, mirror, [quorum(legs), pump]), {
      media: 'memory',
      transport: 'unix',
    }),
  ]
}

const everyone: readonly Server[] = [nbdkit, qemuNbd, nbdServer, pump, nbdkitNull]

/** Every kind of tree over every transport, in turn with the limit of Node's sockets. */
export function matrixBouts(plan: Plan): Bout[] {
  const remote = target(leafTree, { protocol: 'dst' })
  const trees: readonly Tree[] = [
    leafTree,
    linearTree,
    mirrorTree(2),
    mirrorOver('mirror of two remotes', 'remote', [remote, remote]),
    bridgeTree(remote),
  ]
  const bouts: Bout[] = []
  for (const tree of trees)
    for (const transport of ['unix', 'tcp'] as const)
      bouts.push(
        boutOf(plan, `matrix, ${tree.name}`, allWork(), serversOf(plan, tree, [pump]), {
          media: 'memory',
          transport,
        }),
      )
  bouts.push(
    boutOf(plan, 'matrix, leaf', allWork(), serversOf(plan, leafTree, [pump]), {
      media: 'file',
      transport: 'unix',
    }),
  )
  return bouts
}

/** DST/1 and NBD on the same device, driven by our own client. */
export function protocolBouts(plan: Plan): Bout[] {
  const servers = [
    target(leafTree, { name: 'dst', protocol: 'dst' }),
    target(leafTree, { name: 'dst over NBD' }),
    pump,
  ].filter(({ name }) => plan.wantsServer(name))
  const works = plan.quick ? goalWorks : allWork()
  return (plan.quick ? (['unix'] as const) : (['unix', 'tcp'] as const)).map((transport) => ({
    ...boutOf(plan, 'DST/1', works, servers, { media: 'memory', transport }),
    client: 'own' as const,
  }))
}

/** Our target, the same of another version if there is one, and the others that are installed. */
function serversOf(plan: Plan, tree: Tree, others: readonly Server[]): Server[] {
  const ours = [target(tree)]
  if (plan.against !== null) ours.push(target(tree, { name: 'other', root: plan.against }))
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
): Bout {
  const volume: Volume = { ...where, size: plan.size }
  return {
    suite,
    setting: `${where.media} over ${where.transport}`,
    works: works.filter((work) => plan.wantsWork(nameOf(work))),
    fill: true,
    client: 'fio',
    start: async () => {
      const started: Running[] = []
      for (const server of servers)
        try {
          started.push(await Running.start(server, volume, plan.folders))
        } catch (error) {
          omit(plan, `${suite}, ${server.name}: ${messageOf(error)}`)
        }
      return started
    },
    omit: (what, error) => omit(plan, `${suite}, ${what}: ${messageOf(error)}`),
  }
}

function omit(plan: Plan, what: string): void {
  if (!plan.omitted.includes(what)) plan.omitted.push(what)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}
