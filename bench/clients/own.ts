import { fork } from 'node:child_process'
import { join } from 'node:path'
import type { Client, Seen } from './fio.ts'
import type { Order, Said } from './own-worker.ts'
import { track } from '../servers/process.ts'
import type { Work } from './work.ts'

const worker = join(import.meta.dirname, 'own-worker.js')

/** Seconds of the same work before each measurement: our client has a compiler to warm up. */
const warmUpSeconds = 0.5
/** Seconds that a client may take beyond its work; a volume of 256 MiB is filled in far less. */
const graceSeconds = 40

function clientOf(warmUp: number): Client {
  return {
    drive: async (uris, work, seconds, meter) => {
      const seen: (Seen | Error)[] = []
      for (const [at, uri] of uris.entries()) {
        const order = { uri, work, seconds, warmUp }
        seen.push(await carryOut(order, () => meter?.begin(at)).catch(errorOf))
        meter?.end(at)
      }
      return seen
    },
  }
}

/** Our own client, in a process of its own: for DST/1, and for NBD where fio is missing. */
export const ownClient = clientOf(warmUpSeconds)

/** The same, which asks a server for nothing but the operations that it tells of: to count by. */
export const coldClient = clientOf(0)

/** Writes a volume once and flushes it, over either protocol. Rejects when the server fails it. */
export async function fillVolume(uri: string): Promise<void> {
  await carryOut({ uri, work: null, seconds: 0, warmUp: 0 }, () => undefined)
}

/** Does each work for so many seconds, with new clients. */
export async function warmUpVolume(
  uri: string,
  works: readonly Work[],
  seconds: number,
): Promise<void> {
  for (const work of works) await carryOut({ uri, work, seconds, warmUp: 0 }, () => undefined)
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

/** Has a new process do it; `begin` is called when it is warm. */
function carryOut(order: Order, begin: () => void): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const child = fork(worker, [], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    track(child)
    const patience = (order.seconds + order.warmUp + graceSeconds) * 1000
    const fail = (why: string): void => {
      clearTimeout(timer)
      child.kill('SIGKILL')
      reject(new Error(`our client: ${why}`))
    }
    const timer = setTimeout(fail, patience, 'not done in time')
    child.on('message', ({ warm, seen, error }: Said) => {
      if (warm === true) begin()
      else if (seen === undefined) fail(error ?? 'it said nothing')
      else {
        clearTimeout(timer)
        child.disconnect()
        resolve(seen)
      }
    })
    child.on('error', (error) => fail(error.message))
    child.once('exit', (code, signal) => fail(`ended with ${signal ?? `exit code ${code}`}`))
    child.send(order)
  })
}
