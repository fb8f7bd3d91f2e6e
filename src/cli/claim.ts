import type { Argv } from 'yargs'
import type { Claimed } from '../device/device.ts'
import { ManagementClient, managementOption } from './client.ts'
import { printLine } from './print.ts'

const exitCodes = 'Exit codes: 0 done, 1 refused or failed, 2 wrong usage.'

export function claim(yargs: Argv): Argv {
  return yargs.command(
    'claim <command>',
    'reset which head of a mirror has claimed an export',
    (commands) =>
      [reset]
        .reduce<Argv>((all, define) => define(all), commands)
        .demandCommand(1, 'what shall be done with the claim? dst claim --help lists it')
        .example('dst claim reset spare', 'the head that claims it next has it')
        .example('dst claim reset spare --management unix:dst.sock', 'at another target')
        .epilogue(exitCodes),
  )
}

function reset(yargs: Argv): Argv {
  return yargs.command(
    'reset <export>',
    'forget who has claimed an export: for a claim that no head can outbid',
    (options) =>
      options
        .positional('export', { type: 'string', demandOption: true, describe: 'its name' })
        .option('management', managementOption)
        .example('dst claim reset spare', 'heads that are there claim it anew; the highest has it')
        .epilogue(exitCodes),
    async ({ management, export: name }) => {
      const client = new ManagementClient(management)
      const before = (await client.command(['exports', name, 'claim', 'reset'])) as Claimed
      const { held, givenUp } = before
      if (held > 0) printLine(`${name}: the claim ${held} was reset`)
      else printLine(givenUp > 0 ? `${name}: ${givenUp} was given up` : `${name} was not claimed`)
    },
  )
}
