import type { Duplex } from 'node:stream'
import { must, type Trial } from './trial.ts'

/** Milliseconds after which a server of this machine counts as one that does not answer. */
const patienceMs = 30_000

/** Turns of the loop without a word after which no more is coming. */
const quietTurns = 8

/** Waits, in the process's own time; a finding if that takes far too long. */
export async function soon<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), patienceMs)
  })
  const first = await Promise.race([promise, late])
  clearTimeout(timer)
  must(first !== 'late', `${what} within ${patienceMs / 1000} s`)
  return promise
}

/** Says the pieces, ends, and resolves to what was heard when the other side has closed. */
export async function talk(
  trial: Trial,
  stream: Duplex,
  pieces: readonly Buffer[],
): Promise<Buffer> {
  const heard: Buffer[] = []
  stream.on('data', (bytes: Buffer) => void heard.push(bytes))
  stream.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => {
    stream.once('close', resolve)
  })
  trial.connections++
  for (const bytes of pieces) {
    if (stream.closed) break
    trial.bytes += bytes.length
    stream.write(bytes)
    if (trial.dice.chance(0.2)) await trial.turn()
  }
  for (let quiet = 0, known = 0; quiet < quietTurns && !stream.closed; quiet++) {
    await trial.turn()
    if (heard.length > known) quiet = 0
    known = heard.length
  }
  stream.end()
  await soon(closed, 'the server closes')
  return Buffer.concat(heard)
}

/** The bytes in pieces of any length, few of them. */
export function inPieces(trial: Trial, bytes: Buffer): readonly Buffer[] {
  const { dice } = trial
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const length = dice.chance(0.3) ? 1 + dice.below(40) : 1 + dice.below(bytes.length)
    pieces.push(bytes.subarray(at, at + length))
    at += length
    if (pieces.length > 12) {
      pieces.push(bytes.subarray(at))
      break
    }
  }
  return pieces
}
