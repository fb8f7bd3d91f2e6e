import type { Argv } from 'yargs'
import type { Claimed } from '../device/device.ts'
import { ManagementClient, managementOptions } from './client.ts'
import { UsageError } from './exit.ts'
import { printLine } from './print.ts'
import { exitCodes, flag, optional } from './options.ts'

/** Adds `dst claim`: resets the claims on a running target's exports. */
export function claim(yargs: Argv): Argv {
  return yargs.command(
    'claim <command>',
    'reset which head of a mirror has claimed an export',
    (commands) =>
      [reset]
        .reduce<Argv>((all, define) => define(all), commands)
        .demandCommand(1, 'a command is missing; dst claim --help lists them')
        .example('dst claim reset spare', 'the head that claims it next has it')
        .example('dst claim reset spare --management unix:dst.sock', 'at another target')
        .epilogue(exitCodes),
  )
}

function reset(yargs: Argv): Argv {
  return yargs.command(
    'reset [export]',
    'forget which head has claimed an export: for a claim that no head can outbid',
    (options) =>
      options
        .positional('export', optional('the name of the export'))
        .option('all', flag('the claims of all devices: for a record of them that cannot be read'))
        .options(managementOptions)
        .example('dst claim reset spare', 'heads that run claim it again; the highest gets it')
        .epilogue(exitCodes),
    async ({ all, export: name, ...managed }) => {
      if (all === (name !== undefined)) throw new UsageError('name an export, or say --all')
      const client = new ManagementClient(managed)
      printLine(all ? await resetAll(client) : await resetOne(client, name!))
    },
  )
}

async function resetOne(client: ManagementClient, name: string): Promise<string> {
  const path = ['exports', name, 'claim', 'reset']
  const { held, givenUp } = (await client.command(path)) as Claimed
  if (held > 0) return `${name}: the claim ${held} was reset`
  return givenUp > 0 ? `${name}: ${givenUp} was given up` : `${name} was not claimed`
}

async function resetAll(client: ManagementClient): Promise<string> {
  const answer = (await client.command(['claims', 'reset'])) as { forgotten: number | null }
  const { forgotten } = answer
  return forgotten === null
    ? 'the claims of all devices were reset; how many there were is not known'
    : `the claims of all devices were reset: ${forgotten}`
}
