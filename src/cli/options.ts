/** Words and options of commands, in the form that yargs takes. */

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

export const jsonOption = flag('as JSON')

/** The end of the help of commands that change what a running target does. */
export const exitCodes = 'Exit codes: 0 done, 1 refused or failed, 2 wrong usage.'
