import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { systemError, type StorageError } from './errors.ts'

/**
 * Starts a program. If it does not start, this returns null or a child without a process, and calls
 * `failed` once afterwards: with BUSY when descriptors, processes or memory were used up, so that a
 * later try may succeed, otherwise with another code.
 *
 * Node reports such a failure in three ways: it throws; it returns a child without streams and
 * emits an error later; or it returns one with streams and does. An error that is emitted stops a
 * process that does not listen for it.
 */
export function startProgram(
  name: string,
  words: readonly string[],
  options: SpawnOptions,
  failed: (error: StorageError) => void,
): ChildProcess | null {
  let told = false
  // A running child emits an error, too, when it cannot be killed: that is no failure to start.
  const fail = (cause: unknown): void => {
    if (!told && child?.pid === undefined)
      failed(systemError(cause, `the program ${name} does not start`))
    told = true
  }
  let child: ChildProcess | null = null
  try {
    child = spawn(name, words, options)
  } catch (cause) {
    process.nextTick(fail, cause)
    return null
  }
  child.on('error', fail)
  // Without descriptors Node does not get as far as making the streams.
  return (child.stdio as unknown) === undefined ? null : child
}

/** How a program ended. */
export interface Ended {
  /** The exit code; null after a signal. */
  readonly code: number | null
  /** What the program wrote to its standard output and error, where those are pipes. */
  readonly said: string
}

/** Runs a program to its end. Rejects, as `startProgram` tells, if it does not start. */
export function runProgram(
  name: string,
  words: readonly string[],
  options: SpawnOptions,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = startProgram(name, words, options, reject)
    let said = ''
    for (const output of [child?.stdout, child?.stderr])
      output?.on('data', (text: Buffer) => (said += text.toString()))
    child?.on('close', (code) => resolve({ code, said }))
  })
}
