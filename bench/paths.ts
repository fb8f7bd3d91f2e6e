import { existsSync, mkdtempSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { formatSize, GiB } from '../src/base/size.ts'
import { runProgram } from './process.ts'
import type { Progress } from './progress.ts'
import type { Folders } from './servers.ts'

/** How payloads get from a socket to where they stay, and back. */
export const ways = [
  'receive landing',
  'receive list',
  'receive copy',
  'send list',
  'send copy',
] as const
export type Way = (typeof ways)[number]

/** Bytes before each payload, as many as a small protocol's header. */
export const headerBytes = 32

/** What one way of moving payloads of one size costs. */
export interface PathResult {
  readonly way: Way
  /** Bytes of a payload. */
  readonly size: number
  readonly bytesPerSecond: number
  /** Nanoseconds of processor time for all messages, on this side alone. */
  readonly cpu: number
  readonly messages: number
  /** Bytes copied in user space for each byte of payload, headers included, as counted. */
  readonly copiedPerByte: number
  /** On the heap; buffers hold their bytes outside. */
  readonly objectsPerMessage: number
  readonly bytesPerMessage: number
  /** Milliseconds of garbage collection. */
  readonly collecting: number
}

/** Processor time for each GiB, in seconds. */
export function secondsPerGiB({ cpu, messages, size }: PathResult): number {
  return cpu / 1e9 / ((messages * size) / GiB)
}

/** The sizes for which copying costs less processor time than a list. */
export function copyIsCheaper(
  results: readonly PathResult[],
  direction: 'receive' | 'send',
): number[] {
  const cost = (way: Way, of: number): number | undefined =>
    results.filter((result) => result.way === way && result.size === of).map(secondsPerGiB)[0]
  return [...new Set(results.map(({ size }) => size))].filter((size) => {
    const copied = cost(`${direction} copy`, size)
    const listed = cost(`${direction} list`, size)
    return copied !== undefined && listed !== undefined && copied < listed
  })
}

/** Seconds of each way with each size, and of all of them, roughly. */
export const pathSeconds = 0.4
export const pathsSeconds = 55

export const pathSizes = [512, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304]

/** Moves payloads of every size in every way, each in a process of its own. */
export async function measurePaths(
  folders: Folders,
  seconds: number,
  sizes: readonly number[],
  progress: Progress,
  chosen: readonly Way[] = ways,
): Promise<PathResult[]> {
  const results: PathResult[] = []
  for (const [at, size] of sizes.entries())
    for (const way of chosen) {
      progress.at(`paths: ${way}, ${formatSize(size)}`, (pathsSeconds * at) / sizes.length)
      results.push(
        await measure(way, size, seconds, join(mkdtempSync(join(folders.disk, 'path-')), 's')),
      )
    }
  return results
}

/** Seconds after which a worker is given up that should be done. */
const graceSeconds = 20

/** This process is the other side. */
async function measure(way: Way, size: number, seconds: number, path: string): Promise<PathResult> {
  const worker = join(import.meta.dirname, 'paths-worker.js')
  const parameters = [worker, way, String(size), String(seconds), path]
  const result = runProgram(process.execPath, parameters, seconds + graceSeconds).then(
    ({ stdout, failure }) => {
      if (failure !== null) throw new Error(`${way}, ${size} bytes: ${failure}`)
      return JSON.parse(stdout) as PathResult
    },
  )
  // Its failure is told by `result`, also while nobody listens.
  result.catch(() => undefined)
  for (let n = 0; n < 200 && !existsSync(path); n++)
    await new Promise((resolve) => setTimeout(resolve, 20))
  const socket = net.connect({
    path,
    onread: { buffer: Buffer.alloc(1024 * 1024), callback: () => true },
  })
  socket.on('error', () => undefined)
  if (way.startsWith('receive')) feed(socket, size)
  try {
    return await result
  } finally {
    socket.destroy()
  }
}

/** Writes messages until the other side goes away, several in one buffer when they are small. */
export function feed(socket: net.Socket, size: number): void {
  const messages = Math.max(1, Math.floor((256 * 1024) / size))
  const bytes = Buffer.alloc(messages * (headerBytes + size), 1)
  // After an error the stream ends all that waits, what is written meanwhile as well: without end.
  const more = (error?: Error | null): void => {
    if (error == null && !socket.destroyed) socket.write(bytes, more)
  }
  more()
  more()
}
