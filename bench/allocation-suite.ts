import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { probeVariable, type Allocations } from './allocations.ts'
import type { Client } from './fio.ts'
import { Running, pump, type Server } from './servers.ts'
import { goalWorks, type Plan } from './suites.ts'
import { leafTree, target } from './trees.ts'
import { nameOf, type Work } from './work.ts'

/** What a server allocated for each operation of one work, and where. */
export interface AllocationRow {
  readonly server: string
  readonly work: Work
  readonly objectsPerOperation: number
  readonly bytesPerOperation: number
  /** Functions with the most objects per operation. */
  readonly sites: readonly { readonly where: string; readonly objects: number }[]
}

const sitesShown = 8
/** Operations before the count, so that everything is compiled and pools are full. */
const warmUpSeconds = 1.5
const countedSeconds = 0.5
/** Milliseconds until the probe must have written what it counted. */
const toggleTimeout = 20_000

/** Counts our target's allocations, and the plain socket pump's: what Node allocates itself. */
export async function measureAllocations(plan: Plan, client: Client): Promise<AllocationRow[]> {
  const rows: AllocationRow[] = []
  for (const server of [target(leafTree), pump].map(probed)) {
    const volume = { media: 'memory', transport: 'unix', size: plan.size } as const
    const running = await Running.start(server, volume, plan.folders)
    try {
      await client.fill(running.uri)
      for (const work of goalWorks.filter((one) => plan.wantsWork(nameOf(one)))) {
        await client.drive(running.uri, work, warmUpSeconds)
        rows.push(await count(running, work, client))
      }
    } finally {
      await running.stop()
    }
  }
  return rows
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
  const { place, server } = running
  const path = probePath(place.folder)
  await toggle(running.pid, path)
  const { operations } = await client.drive(running.uri, work, countedSeconds)
  await toggle(running.pid, path)
  const found = JSON.parse(readFileSync(path, 'utf8')) as Allocations
  rmSync(path)
  return {
    server: server.name,
    work,
    objectsPerOperation: found.objects / operations,
    bytesPerOperation: found.bytes / operations,
    sites: found.sites
      .slice(0, sitesShown)
      .map(({ where, objects }) => ({ where, objects: objects / operations })),
  }
}

/** Starts or ends the count, and waits until the probe has said so by making its file anew. */
async function toggle(pid: number, path: string): Promise<void> {
  rmSync(path, { force: true })
  process.kill(pid, 'SIGUSR2')
  const deadline = performance.now() + toggleTimeout
  while (!existsSync(path)) {
    if (performance.now() > deadline) throw new Error('the probe does not answer')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
