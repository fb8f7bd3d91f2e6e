import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import { asText, isObject } from '../base/guards.ts'
import { formatUri, parseUri, withPaths } from '../net/uri.ts'
import { ManagementClient, managementOptions, type Managed } from './client.ts'
import { UsageError } from './exit.ts'
import { showGrowth, sizeAsked } from './growth.ts'
import { printWarning } from './print.ts'
import { tellLeg, waitForLeg } from './progress.ts'
import { exitCodes, flag, optional, required, sizeOf } from './options.ts'

interface Place extends Managed {
  readonly volume: string
  readonly leg: string
}

/** Adds `dst leg`: commands on the legs of a running mirror. */
export function leg(yargs: Argv): Argv {
  return yargs.command(
    'leg <command>',
    'take legs of a mirror off, put them back, add, enlarge and remove them',
    (commands) =>
      [detach, attach, add, grow, ...plainCommands.map(plain)]
        .reduce<Argv>((all, define) => define(all), commands)
        .demandCommand(1, 'a command is missing; dst leg --help lists them')
        .example('dst leg detach home right --as monday', 'a consistent image, taken now')
        .example('dst leg attach home right', 'put it back by copying what it missed')
        .epilogue(exitCodes),
  )
}

/** Adds the arguments and options of every command on a leg. */
function onLeg(options: Argv) {
  return options
    .positional('volume', required('the mirror'))
    .positional('leg', required('the name of the leg'))
    .options(managementOptions)
    .epilogue(exitCodes)
}

const discardOption = flag('drop what was changed on the leg alone')

const waitOption = {
  type: 'boolean',
  default: process.stdout.isTTY,
  defaultDescription: 'on a terminal',
  describe: 'show the progress until the leg is in sync',
} as const

function detach(yargs: Argv): Argv {
  return yargs.command(
    'detach <volume> <leg>',
    'leave a consistent image of this moment on the leg',
    (options) =>
      onLeg(options)
        .option('as', optional('a name for the image, shown by status'))
        .example('dst leg detach home right', 'take it off')
        .example('dst leg detach home right --as before-upgrade', 'and remember why'),
    async ({ as, ...place }) => {
      await change(place, 'detach', as === undefined ? {} : { as })
    },
  )
}

function attach(yargs: Argv): Argv {
  return yargs.command(
    'attach <volume> <leg>',
    'return a leg that was taken off; what it missed is copied',
    (options) =>
      onLeg(options)
        .option('discard', discardOption)
        .option('replace', flag('it is a new, blank disk in the place of the old one: fill it'))
        .option('wait', waitOption)
        .example('dst leg attach home right', 'refused if the image was changed meanwhile')
        .example('dst leg attach home right --discard', 'not refused: the changes are dropped'),
    async ({ discard, replace, wait, ...place }) => {
      await change(place, 'attach', { discard, replace }, wait ? 'in-sync' : 'done')
    },
  )
}

function add(yargs: Argv): Argv {
  return yargs.command(
    'add <volume> <leg> <device>',
    'add a leg while the volume runs; it is filled',
    (options) =>
      onLeg(options)
        .positional(
          'device',
          required('a device of the configuration, a URI, the path of a file, or JSON'),
        )
        .option('size', optional('size of a new file, such as 64G'))
        .option('read-last', flag('read elsewhere first'))
        .option('discard', discardOption)
        .option('wait', waitOption)
        .example('dst leg add home third dst://10.0.0.3/spare', 'an export of another target')
        .example('dst leg add home third ./third.img --size 64G', 'a new file')
        .epilogue('Write the leg into the configuration too: the next start reads it there.'),
    async ({ device, size, readLast, discard, wait, ...place }) => {
      const options = { device: deviceOf(device, size), readLast, discard }
      await change(place, 'add', options, wait ? 'in-sync' : 'done')
    },
  )
}

function grow(yargs: Argv): Argv {
  return yargs.command(
    'grow <volume> <leg> [size]',
    'enlarge the file of a leg, or use what its file or disk has grown by',
    (options) =>
      onLeg(options)
        .positional('size', optional('new size of the leg, such as 64G; all of it'))
        .example('dst leg grow home left 64G', 'make its file that large')
        .example('dst leg grow home left', 'use all that its file or disk has')
        .epilogue('The volume grows when every leg has: `dst volume grow` does all at once.'),
    async ({ volume, leg, size, ...managed }) => {
      const asked = sizeAsked(size)
      const client = new ManagementClient(managed)
      const outcome = await client.command(['volumes', volume, 'legs', leg, 'grow'], asked)
      showGrowth(volume, outcome)
    },
  )
}

/** Commands whose only argument is the leg, each with its description. */
const plainCommands = [
  ['remove', 'forget a leg; its data stay where they are'],
  ['invalidate', 'have a leg copied whole again'],
  ['trust', 'take a leg as in sync without copying: only if you know that it is'],
  ['export', 'take a leg off for good, as an image without metadata'],
] as const

function plain([verb, describe]: readonly [string, string]) {
  return (yargs: Argv): Argv =>
    yargs.command(
      `${verb} <volume> <leg>`,
      describe,
      (options) =>
        onLeg(options)
          .example(`dst leg ${verb} home right`, 'on the target that was started here')
          .example(`dst leg ${verb} home right --management unix:/run/dst.sock`, 'on another one'),
      (place) => change(place, verb, {}),
    )
}

/** Gives a command on a leg, and prints its warning and the state of the leg after it. */
async function change(
  { volume, leg, ...managed }: Place,
  verb: string,
  options: object,
  until: 'done' | 'in-sync' = 'done',
): Promise<void> {
  const client = new ManagementClient(managed)
  const outcome = await client.command(['volumes', volume, 'legs', leg, verb], options)
  const warning = isObject(outcome) ? asText(outcome['warning']) : ''
  if (warning !== '') printWarning(warning)
  if (until === 'in-sync') await waitForLeg(client, volume, leg)
  await tellLeg(client, volume, leg)
}

/** The device that a command line describes; paths are made absolute for the target. */
function deviceOf(text: string, size: string | undefined): unknown {
  const isPath = text.includes('/') && !text.includes('://') && !text.startsWith('{')
  if (size !== undefined && !isPath)
    throw new UsageError('--size is for a file that is made; its path has a "/": ./third.img')
  if (size !== undefined) sizeOf('--size', size)
  if (text.startsWith('{')) {
    try {
      return JSON.parse(text)
    } catch (error) {
      throw new UsageError(`the device is not JSON: ${(error as Error).message}`)
    }
  }
  const uri = parseUri(text)
  if (typeof uri !== 'string') {
    // The target has another working directory.
    const there = formatUri(withPaths(uri, (path) => resolve(path)))
    return { type: uri.protocol === 'dst' ? 'remote' : 'nbd', uri: there }
  }
  if (text.includes('://')) throw new UsageError(`"${text}": ${uri}`)
  if (!text.includes('/')) return text
  const file = { type: 'file', path: resolve(text) }
  return size === undefined ? file : { ...file, size, create: true }
}
