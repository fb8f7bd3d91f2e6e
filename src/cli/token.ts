import { randomBytes } from 'node:crypto'
import type { Argv } from 'yargs'
import { isTokenName, lineOfToken, roles } from '../net/tokens.ts'
import { UsageError } from './exit.ts'
import { printJson, printLine } from './print.ts'
import { jsonOption, required } from './options.ts'

/** Random bytes in a token: too many to guess, so a plain hash of a token gives nothing away. */
const tokenBytes = 32

/** Adds `dst token`: makes a token for the management. */
export function token(yargs: Argv): Argv {
  return yargs.command(
    'token <name>',
    'make a token for the management, and the line that lets it in',
    (options) =>
      options
        .positional('name', required('whose it is, as the log shows it'))
        .option('role', {
          choices: roles,
          demandOption: true,
          describe: 'view: look at everything; manage: give commands too',
        } as const)
        .option('json', jsonOption)
        .example('dst token grafana --role view', 'for a program that shows the status')
        .example('dst token ops --role manage --json | jq -r .token', 'the token alone')
        .epilogue('The token is shown once and kept nowhere. Exit codes: 0 made, 2 wrong usage.'),
    ({ name, role, json }) => {
      if (!isTokenName(name)) {
        const allowed = 'letters, digits, ".", "_", "@" and "-", at most 64'
        throw new UsageError(`"${name}": a name has ${allowed}`)
      }
      const secret = `dst_${randomBytes(tokenBytes).toString('base64url')}`
      const line = lineOfToken(name, role, secret)
      if (json) printJson({ token: secret, line })
      else {
        printLine(`for the client, in the file of --token-file:       ${secret}`)
        printLine(`for the target, in the file of "tokens", one line: ${line}`)
      }
    },
  )
}
