import type { Argv } from 'yargs'
import { describeDuration } from '../base/duration.ts'
import { describeSize } from '../base/size.ts'
import type { HistoryEntry } from '../mirror/record.ts'
import { iso } from '../manage/status.ts'
import { ManagementClient, managementOptions } from './client.ts'
import { showGrowth, sizeAsked } from './growth.ts'
import { tellVolume } from './progress.ts'
import { printJson, printLine } from './print.ts'
import { exitCodes, flag, jsonOption, optional, required } from './options.ts'

/** Adds `dst volume`: commands on a running mirror as a whole. */
export function volume(yargs: Argv): Argv {
  return yargs.command(
    'volume <command>',
    'start a mirror that waits, enlarge it, and show its history',
    (commands) =>
      [start, history, grow]
        .reduce<Argv>((all, define) => define(all), commands)
        .demandCommand(1, 'a command is missing; dst volume --help lists them')
        .example('dst volume history home', 'membership changes and resyncs')
        .example('dst volume start home --force', 'you know that no absent leg is newer')
        .epilogue(exitCodes),
  )
}

/** Adds the arguments and options of every command on a volume. */
function onVolume(options: Argv) {
  return options
    .positional('volume', required('the mirror'))
    .options(managementOptions)
    .epilogue(exitCodes)
}

function start(yargs: Argv): Argv {
  return yargs.command(
    'start <volume>',
    'start a volume that waits for a leg which could be newer',
    (options) =>
      onVolume(options)
        .option('force', flag('no absent leg is newer, or what it has may be lost'))
        .option('leg', optional('the leg whose data count, after a split'))
        .example('dst volume start home', 'try again, and say what it waits for')
        .example('dst volume start home --force --leg left', 'with the data of this leg'),
    async ({ volume, force, leg, ...managed }) => {
      const options = leg === undefined ? { force } : { force, leg }
      const client = new ManagementClient(managed)
      await client.command(['volumes', volume, 'start'], options)
      await tellVolume(client, volume)
    },
  )
}

function grow(yargs: Argv): Argv {
  return yargs.command(
    'grow <volume> [size]',
    'enlarge a volume with all its legs while it runs',
    (options) =>
      onVolume(options)
        .positional('size', optional('new size of the volume, such as 64G'))
        .example('dst volume grow home 64G', 'enlarge the files of all legs as far as needed')
        .example('dst volume grow home', 'use what the files and disks of the legs have grown by'),
    async ({ volume, size, ...managed }) => {
      const asked = sizeAsked(size)
      const client = new ManagementClient(managed)
      showGrowth(volume, await client.command(['volumes', volume, 'grow'], asked))
    },
  )
}

function history(yargs: Argv): Argv {
  return yargs.command(
    'history <volume>',
    'every change of membership and every resync, oldest first',
    (options) =>
      onVolume(options)
        .option('json', jsonOption)
        .example('dst volume history home', 'for people')
        .example("dst volume history home --json | jq '.[].resync'", 'for programs'),
    async ({ volume, json, ...managed }) => {
      const client = new ManagementClient(managed)
      const entries = (await client.look(['volumes', volume, 'history'])) as HistoryEntry[]
      if (json) printJson(entries)
      else for (const entry of entries) printLine(line(entry))
    },
  )
}

function line(entry: HistoryEntry): string {
  const { at, kind, leg, text, generation, resync, times, first } = entry
  const moment = iso(at).replace('T', ' ').slice(0, 19)
  const words = [moment, `generation ${generation}`, kind, leg, text]
  if (resync !== undefined) {
    const { source, bytes, bytesMoved = bytes, milliseconds, outcome } = resync
    const from = source === '' ? '' : ` from ${source}`
    const time = describeDuration(milliseconds)
    const zero = bytesMoved === bytes ? '' : ` (${describeSize(bytesMoved)} copied, the rest zero)`
    words.push(`${resync.kind}${from}, ${describeSize(bytes)} in ${time}${zero}, ${outcome}`)
  }
  if (times !== undefined && first !== undefined)
    words.push(`${times} times since ${iso(first).replace('T', ' ').slice(0, 19)}`)
  return words.filter((word) => word !== '').join('  ')
}
