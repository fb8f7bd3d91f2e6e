import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { KiB, MiB } from '../../src/base/size.ts'
import { prepareVolume, ownClient } from '../clients/own.ts'
import type { Client, Work } from '../clients/work.ts'
import { tell } from '../run/progress.ts'
import { goalWorks, omit, wantsServer, wantsWork, type Plan } from '../run/suites.ts'
import { messageOf } from '../servers/process.ts'
import { Running, pump, type Media, type Server } from '../servers/servers.ts'
import { bridgeTree, leafTree, target } from '../servers/trees.ts'
import type { Probed } from './probe.ts'

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
  /** Functions with the most objects per operation. */
  readonly sites: readonly { readonly where: string; readonly objects: number }[]
}

const sitesKept = 3
/** Seconds before the count, so that everything is compiled and pools are full. */
const warmUpSeconds = 1
const countedSeconds = 0.5
/** Milliseconds until the probe must have written what it counted. */
const probeTimeout = 60_000

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

const remote = target(leafTree, { protocol: 'dst' })
const dstFile = target(leafTree, { name: dstFileName, protocol: 'dst' })
const bridge = target(bridgeTree(remote), { name: bridgeName })

/** A file's bytes come and go by system calls; a memory's are copied to where they stay. */
const cases: readonly Case[] = [
  { server: target(leafTree), media: 'memory', works: goalWorks },
  { server: pump, media: 'memory', works: goalWorks },
  { server: dstFile, media: 'file', works: forwarding },
  { server: bridge, media: 'memory', works: forwarding },
]

/** Counts our target's allocations and copies, and the pump's: what Node does itself. */
export async function measureAllocations(plan: Plan, client: Client): Promise<AllocationRow[]> {
  const rows: AllocationRow[] = []
  const wanted = cases
    .map((one) => ({ ...one, works: one.works.filter((work) => wantsWork(plan, work)) }))
    .filter(({ server, works }) => works.length > 0 && wantsServer(plan, server))
  if (wanted.length === 0) omit(plan, 'allocation: none of its work or servers was asked for')
  for (const one of wanted) {
    tell(`allocation: ${one.server.name}`)
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
    await prepareVolume(running.uri, [], 0)
    const driver = server.protocol === 'dst' ? ownClient : client
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
      const probe = pathToFileURL(join(import.meta.dirname, 'probe.js'))
      probe.search = encodeURIComponent(probePath(place.folder))
      return [node!, '--import', probe.href, ...rest]
    },
  }
}

function probePath(folder: string): string {
  return join(folder, 'allocations.json')
}

async function count(running: Running, work: Work, client: Client): Promise<AllocationRow> {
  await askProbe(running)
  const operations = await operate(client, running, work, countedSeconds)
  const { allocations: found } = await askProbe(running)
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
    sites: found.sites
      .slice(0, sitesKept)
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
    await sleep(10)
  }
  return JSON.parse(readFileSync(path, 'utf8')) as Probed
}
