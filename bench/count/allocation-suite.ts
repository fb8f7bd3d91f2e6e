import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Client } from '../clients/fio.ts'
import { coldClient, fillVolume, ownClient } from '../clients/own.ts'
import { probeVariable, type Probed } from './probes.ts'
import { Running, pump, type Media, type Server } from '../servers/servers.ts'
import { goalWorks, messageOf, omit, type Plan } from '../run/suites.ts'
import type { Progress } from '../run/progress.ts'
import { bridgeTree, leafTree, target } from '../servers/trees.ts'
import { nameOf, type Work } from '../clients/work.ts'

/** What a server allocated and copied for each operation of one work, and where. */
export interface AllocationRow {
  readonly server: string
  readonly work: Work
  readonly objectsPerOperation: number
  readonly bytesPerOperation: number
  /** Without what functions of Node itself make. */
  readonly ownObjectsPerOperation: number
  /** Bytes copied in user space for each byte of payload. */
  readonly copiedPerByte: number
  /** Milliseconds of garbage collection in each second of the processor. */
  readonly collecting: number
  /** Functions with the most objects per operation. */
  readonly sites: readonly { readonly where: string; readonly objects: number }[]
}

const sitesShown = 8
/** Operations before the count, so that everything is compiled and pools are full. */
const warmUpSeconds = 1
const countedSeconds = 0.5
/** Milliseconds until the probe must have written what it counted. */
const probeTimeout = 20_000

interface Case {
  readonly server: Server
  readonly media: Media
  readonly works: readonly Work[]
}

/** What moves payloads without storing them itself: nothing may be copied. */
const forwarding: readonly Work[] = [
  { pattern: 'randread', blockSize: 4 * KiB, depth: 32 },
  { pattern: 'randwrite', blockSize: 4 * KiB, depth: 32 },
  { pattern: 'read', blockSize: MiB, depth: 8 },
  { pattern: 'write', blockSize: MiB, depth: 8 },
]

export const bridgeName = 'bridge over DST/1'
export const dstFileName = 'DST/1, file'

/** A file's bytes come and go by system calls; a memory's are copied to where they stay. */
function cases(): Case[] {
  const remote = target(leafTree, { protocol: 'dst' })
  return [
    { server: target(leafTree), media: 'memory', works: goalWorks },
    { server: pump, media: 'memory', works: goalWorks },
    {
      server: target(leafTree, { name: dstFileName, protocol: 'dst' }),
      media: 'file',
      works: forwarding,
    },
    {
      server: target(bridgeTree(remote), { name: bridgeName }),
      media: 'memory',
      works: forwarding,
    },
  ]
}

/** Seconds that all of it takes, roughly. */
export const allocationSeconds = 85

/** Counts our target's allocations and copies, and the pump's: what Node does itself. */
export async function measureAllocations(
  plan: Plan,
  client: Client,
  progress: Progress,
): Promise<AllocationRow[]> {
  const rows: AllocationRow[] = []
  const all = cases()
    .map((one) => ({ ...one, works: one.works.filter((work) => plan.wantsWork(nameOf(work))) }))
    .filter(({ server, works }) => works.length > 0 && plan.wantsServer(server.name))
  if (all.length === 0) omit(plan, 'allocation: none of its work or servers was asked for')
  for (const [at, one] of all.entries()) {
    progress.at(`allocation: ${one.server.name}`, (allocationSeconds * at) / all.length)
    try {
      rows.push(...(await countCase(plan, one, client)))
    } catch (error) {
      omit(plan, `allocation, ${one.server.name}: ${messageOf(error)}`)
    }
  }
  return rows
}

async function countCase(
  plan: Plan,
  { server, media, works }: Case,
  client: Client,
): Promise<AllocationRow[]> {
  const volume = { media, transport: 'unix', size: plan.size } as const
  const running = await Running.start(probed(server), volume, plan.folders)
  const rows: AllocationRow[] = []
  try {
    await fillVolume(running.uri)
    const driver = server.protocol === 'dst' || client === ownClient ? coldClient : client
    for (const work of works) {
      await operate(driver, running, work, warmUpSeconds)
      rows.push(await count(running, work, driver))
    }
  } finally {
    await running.stop()
  }
  return rows
}

async function operate(
  client: Client,
  running: Running,
  work: Work,
  seconds: number,
): Promise<number> {
  const [seen] = await client.drive([running.uri], work, seconds)
  if (running.failure !== null) throw new Error(running.failure)
  if (seen === undefined || seen instanceof Error) throw seen ?? new Error('nothing was seen')
  return seen.operations
}

/** The same server with the probe loaded into it. */
function probed(server: Server): Server {
  return {
    ...server,
    command: (place) => {
      const [node, ...rest] = server.command(place)
      return [node!, '--import', join(import.meta.dirname, 'probe.js'), ...rest]
    },
    environment: ({ folder }) => ({ [probeVariable]: probePath(folder) }),
  }
}

function probePath(folder: string): string {
  return join(folder, 'allocations.json')
}

async function count(running: Running, work: Work, client: Client): Promise<AllocationRow> {
  const before = running.usage()
  await askProbe(running)
  const operations = await operate(client, running, work, countedSeconds)
  const { allocations: found } = await askProbe(running)
  const cpu = running.cpuBetween(before, running.usage())
  const moved = (await operate(client, running, work, countedSeconds)) * work.blockSize
  const { copied } = await askProbe(running)
  if (found === undefined || copied === undefined) throw new Error('the probe was asked twice')
  return {
    server: running.server.name,
    work,
    objectsPerOperation: found.objects / operations,
    bytesPerOperation: found.bytes / operations,
    ownObjectsPerOperation: found.ownObjects / operations,
    copiedPerByte: copied / moved,
    collecting: (1000 * found.collecting) / (cpu / 1e6),
    sites: found.sites
      .slice(0, sitesShown)
      .map(({ where, objects }) => ({ where, objects: objects / operations })),
  }
}

/** Has the probe go on to its next step, and returns what it says by making its file anew. */
async function askProbe({ pid, place }: Running): Promise<Probed> {
  const path = probePath(place.folder)
  rmSync(path, { force: true })
  process.kill(pid, 'SIGUSR2')
  const deadline = performance.now() + probeTimeout
  while (!existsSync(path)) {
    if (performance.now() > deadline) throw new Error('the probe does not answer')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return JSON.parse(readFileSync(path, 'utf8')) as Probed
}
