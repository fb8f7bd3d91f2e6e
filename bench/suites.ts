import { KiB, MiB } from '../src/base/size.ts'
import { findProgram } from './process.ts'
import type { Bout } from './run.ts'
import {
  dst,
  nbdkit,
  nbdkitNull,
  nbdServer,
  pump,
  qemuNbd,
  Running,
  type Folders,
  type Media,
  type Server,
  type Transport,
} from './servers.ts'
import type { Work } from './work.ts'

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

/** What every suite is told. */
export interface Setting {
  readonly works: readonly Work[]
  readonly servers: readonly Server[]
  /** Bytes of each volume. */
  readonly size: number
  readonly folders: Folders
}

/** Those that are installed; what is not goes to `omitted`. */
export function installed(servers: readonly Server[], omitted: string[]): Server[] {
  return servers.filter(({ name, program }) => {
    if (program === null || findProgram(program) !== null) return true
    omitted.push(`${name}: ${program} is not installed`)
    return false
  })
}

export const peers: readonly Server[] = [dst, nbdkit, qemuNbd, nbdServer, pump, nbdkitNull]

/** The same volume served by everyone, in turn. */
export function peersBout(setting: Setting, media: Media, transport: Transport): Bout {
  const { servers, size, folders } = setting
  return {
    suite: 'peers',
    setting: `${media} over ${transport}`,
    works: setting.works,
    start: () => startAll(servers, media, transport, size, folders),
  }
}

async function startAll(
  servers: readonly Server[],
  media: Media,
  transport: Transport,
  size: number,
  folders: Folders,
): Promise<Running[]> {
  const started: Running[] = []
  try {
    for (const server of servers)
      started.push(await Running.start(server, media, transport, size, folders))
  } catch (error) {
    await Promise.all(started.map((running) => running.stop()))
    throw error
  }
  return started
}
