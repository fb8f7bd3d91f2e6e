import { StorageError } from '../base/errors.ts'
import { ConfigError } from '../config/config.ts'
import { printableLines, printError } from './print.ts'

/** Exit codes; `status` has its own. */
export const Exit = {
  done: 0,
  /** It was tried and failed. */
  failed: 1,
  /** Wrong usage or configuration: trying again will not help. */
  usage: 2,
} as const

/** The command line cannot be understood. */
export class UsageError extends Error {}

/** Says what went wrong, one line each, on standard error; returns the exit code for it. */
export function report(error: unknown, verbose: boolean): number {
  const lines = error instanceof ConfigError ? error.lines : messageOf(error).split('\n')
  for (const line of lines) printError(line)
  if (verbose && error instanceof Error)
    process.stderr.write(`${printableLines(error.stack ?? '')}\n`)
  if (error instanceof UsageError) return Exit.usage
  return error instanceof StorageError && error.code === 'CONFIG' ? Exit.usage : Exit.failed
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const device = error instanceof StorageError ? error.device : ''
  return device === '' ? error.message : `${error.message} (${device})`
}
