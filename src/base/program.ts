import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { systemError, type StorageError } from './errors.ts'

/**
 * Starts a program; null when that cannot be done now. A program that does not start is reported
 * to `failed`, once, after this returned: BUSY when descriptors, processes or memory were used up,
 * so that a later try may go well, else another code.
 *
 * Node tells of this in three ways, and one of them stops a process that does not expect it: it
 * throws; it returns a child without any stream and emits an error later; or with streams.
 */
export function startProgram(
  name: string,
  words: readonly string[],
  options: SpawnOptions,
  failed: (error: StorageError) => void,
): ChildProcess | null {
  let told = false
  // A child that cannot be killed emits an error as well.
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
  // Where descriptors have run out, Node does not get as far as making the streams.
  return (child.stdio as unknown) === undefined ? null : child
}
