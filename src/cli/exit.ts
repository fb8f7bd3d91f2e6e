import { StorageError } from '../base/errors.ts'
import { ConfigError } from '../config/config.ts'
import { printableLines, printError } from './print.ts'

/** Exit codes; `status` has its own. */
export const Exit = {
  done: 0,
  /** The command was tried and failed. */
  failed: 1,
  /** Wrong usage or configuration: trying again will not help. */
  usage: 2,
} as const

/** A mistake in the command line. */
export class UsageError extends Error {}

/** Prints an error, a line for each problem, on standard error. Returns the exit code for it. */
export function report(error: unknown, detail: 'message' | 'with-stack'): number {
  const lines = error instanceof ConfigError ? error.lines : messageOf(error).split('\n')
  for (const line of lines) printError(line)
  if (detail === 'with-stack' && error instanceof Error)
    process.stderr.write(`${printableLines(error.stack ?? '')}\n`)
  if (error instanceof UsageError) return Exit.usage
  return error instanceof StorageError && error.code === 'CONFIG' ? Exit.usage : Exit.failed
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const device = error instanceof StorageError ? error.device : ''
  return device === '' ? error.message : `${error.message} (${device})`
}
