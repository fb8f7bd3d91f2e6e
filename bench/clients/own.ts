import { systemClock } from '../../src/base/clock.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Load, type LoadResult } from '../../src/cli/load.ts'
import { openExport } from '../../src/cli/open.ts'
import type { Device } from '../../src/device/device.ts'
import { readsOnly, type Client, type Seen, type Work } from './work.ts'
import { fill } from '../../test/support/fill.ts'

/** Milliseconds within which a server has to answer a request, also on a busy machine. */
const answerTimeout = 30_000

/** Our own client, in this process: for DST/1, and for NBD where fio is missing. */
export const ownClient: Client = {
  drive: async (uris, work, seconds) => {
    const seen: (Seen | Error)[] = []
    for (const uri of uris) {
      const result = withDevices(uri, work.connections ?? 1, async (devices) =>
        sum(await Promise.all(devices.map((device) => load(device, work, seconds)))),
      )
      seen.push(await result.catch(errorOf))
    }
    return seen
  },
}

/**
 * Writes a volume once and flushes it, over either protocol, then does each work for so many
 * seconds. Rejects when the server fails it.
 */
export function prepareVolume(uri: string, works: readonly Work[], seconds: number): Promise<void> {
  return withDevices(uri, 1, async ([device]) => {
    await fill(device!, systemRandom)
    if (seconds > 0) for (const work of works) await load(device!, work, seconds)
  })
}

export function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

async function withDevices<T>(
  uri: string,
  count: number,
  use: (devices: readonly Device[]) => Promise<T>,
): Promise<T> {
  const devices: Device[] = []
  try {
    // One after the other: a listener's queue is short.
    while (devices.length < count) devices.push(await openExport(uri, answerTimeout))
    return await use(devices)
  } finally {
    await Promise.all(devices.map((device) => device.close()))
  }
}

function load(device: Device, work: Work, seconds: number): Promise<LoadResult> {
  const { pattern, blockSize, depth } = work
  const reads = readsOnly(work) ? 100 : 0
  const asked = { reads, sequential: !pattern.startsWith('rand'), blockSize, depth }
  return new Load(device, asked, systemClock, systemRandom).run(seconds * 1000)
}

/** Latencies are given for a single connection only, because percentiles cannot be added up. */
function sum(results: readonly LoadResult[]): Seen {
  const total = (of: (result: LoadResult) => number): number =>
    results.reduce((so, result) => so + of(result), 0)
  return {
    operations: total(({ operations }) => operations),
    bytes: total(({ bytes }) => bytes),
    seconds: Math.max(...results.map(({ seconds }) => seconds)),
    ...(results.length === 1 ? results[0]!.latency : { p50: null, p99: null, p999: null }),
  }
}
