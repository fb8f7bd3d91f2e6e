import { parseSize, sizeMeant } from '../base/size.ts'
import { UsageError } from './exit.ts'

/** The options that commands share, as yargs takes them, and the functions that read them. */

/** A switch, which is off unless it is given. */
export function flag(describe: string) {
  return { type: 'boolean', default: false, describe } as const
}

/** A text that may be left out. */
export function optional(describe: string) {
  return { type: 'string', describe } as const
}

/** A text that has to be given. */
export function required(describe: string) {
  return { type: 'string', demandOption: true, describe } as const
}

/** Bytes of a size that was given; throws a UsageError, in which `what` names it, for any other. */
export function sizeOf(what: string, text: string): number {
  const bytes = parseSize(text)
  if (bytes === null || bytes === 0)
    throw new UsageError(`${what} "${text}" is no size such as 64G${sizeMeant(text)}`)
  return bytes
}

export const jsonOption = flag('as JSON')

/** The end of the help of commands that change what a running target does. */
export const exitCodes = 'Exit codes: 0 done, 1 refused or failed, 2 wrong usage.'
