import { systemClock } from '../../src/base/clock.ts'
import { systemRandom } from '../../src/base/random.ts'
import { openExport } from '../../src/cli/open.ts'
import type { Device } from '../../src/device/device.ts'
import { fill, Load, type LoadResult } from '../../src/cli/load.ts'
import type { Seen } from './fio.ts'
import { mixedReads, type Pattern, type Work } from './work.ts'

/** What a worker is told to do, by a message. */
export interface Order {
  readonly uri: string
  /** Null to write the whole export once and flush it. */
  readonly work: Work | null
  readonly seconds: number
  /** Seconds of the same work before that, by the same client, which do not count. */
  readonly warmUp: number
}

/** What it says: that it is warm and begins now, what it saw, or why it could not. */
export interface Said {
  readonly warm?: true
  readonly seen?: Seen
  readonly error?: string
}

/** Milliseconds within which a server has to answer a request. */
const answerTimeout = 10_000

const nothing: Seen = { operations: 0, bytes: 0, seconds: 0, p50: null, p99: null, p999: null }

function readsOf(pattern: Pattern): number {
  return pattern === 'randrw' ? mixedReads : pattern.endsWith('read') ? 100 : 0
}

/** The same work on every connection at once. */
function load(devices: readonly Device[], work: Work, seconds: number): Promise<LoadResult[]> {
  const { pattern, blockSize, depth } = work
  const each = { reads: readsOf(pattern), sequential: !pattern.startsWith('rand') }
  return Promise.all(
    devices.map((device) =>
      new Load(device, { ...each, blockSize, depth }, systemClock, systemRandom).run(
        seconds * 1000,
      ),
    ),
  )
}

/** Latencies are those of a single connection: nobody adds up percentiles. */
function sum(results: readonly LoadResult[]): Seen {
  const total = (of: (result: LoadResult) => number): number =>
    results.reduce((so, result) => so + of(result), 0)
  return {
    ...nothing,
    operations: total(({ operations }) => operations),
    bytes: total(({ bytes }) => bytes),
    seconds: Math.max(...results.map(({ seconds }) => seconds)),
    ...(results.length === 1 ? results[0]!.latency : {}),
  }
}

async function carryOut({ uri, work, seconds, warmUp }: Order): Promise<Seen> {
  const devices: Device[] = []
  try {
    // One after the other: a listener's queue is shorter than a thousand.
    for (let count = work?.connections ?? 1; count > 0; count--)
      devices.push(await openExport(uri, answerTimeout))
    if (work === null) {
      await fill(devices[0]!, systemRandom)
      return nothing
    }
    if (warmUp > 0) await load(devices, work, warmUp)
    say({ warm: true })
    return sum(await load(devices, work, seconds))
  } finally {
    await Promise.all(devices.map((device) => device.close()))
  }
}

function say(said: Said): void {
  process.send!(said)
}

// Started by `own.ts`; ends when that lets go of the channel, which it listens on until then.
process.on('message', (order: Order) => {
  carryOut(order).then(
    (seen) => say({ seen }),
    (error: unknown) => say({ error: error instanceof Error ? error.message : String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
