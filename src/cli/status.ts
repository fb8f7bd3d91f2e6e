import { setTimeout as sleep } from 'node:timers/promises'
import type { Argv } from 'yargs'
import { StorageError } from '../base/errors.ts'
import { health } from '../manage/status.ts'
import type { Status } from '../manage/status.types.ts'
import { ManagementClient, managementOptions, Unreachable, type Managed } from './client.ts'
import { printError, printJson } from './print.ts'
import { renderStatus } from './render.ts'
import { flag, optional } from './options.ts'

/** The exit codes, which are those of mdadm. */
const exitCodes = { healthy: 0, syncing: 1, degraded: 1, failed: 2 } as const
const unreachableCode = 4

/** Milliseconds between two looks of --watch. */
const watchIntervalMs = 1000

interface Options extends Managed {
  readonly json: boolean
  readonly watch: boolean
  readonly device: string | undefined
}

/** Adds `dst status`: shows a running target. */
export function status(yargs: Argv): Argv {
  return yargs.command(
    'status [device]',
    'show the devices of a running target, and the clients of its exports',
    (options) =>
      options
        .positional('device', optional('show only this device, which is part of no other'))
        .options(managementOptions)
        .option('json', flag('as JSON, see status.schema.json'))
        .option('watch', flag('go on until interrupted'))
        .example('dst status', 'the target that was started here')
        .example('dst status home --json | jq .devices.home.legs', 'the legs of one mirror')
        .epilogue(
          'Exit codes: 0 healthy, 1 degraded or syncing, 2 failed, ' +
            '4 no target answers, or it refuses.',
        ),
    (options) => run(options),
  )
}

async function run(options: Options): Promise<void> {
  try {
    const client = new ManagementClient(options)
    for (;;) {
      const status = chosen((await client.status()) as Status, options.device)
      show(status, options)
      process.exitCode = exitCodes[status.state]
      if (!options.watch) return
      await sleep(watchIntervalMs)
    }
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error
    printError(error.message)
    process.exitCode = unreachableCode
  }
}

function show(status: Status, { json, watch }: Options): void {
  const terminal = process.stdout.isTTY
  const columns = terminal ? process.stdout.columns : Infinity
  if (json) printJson(status, watch ? 0 : 2)
  else {
    // Clear the text of the last look.
    const clear = watch && terminal ? '\u001b[H\u001b[J' : ''
    process.stdout.write(`${clear}${renderStatus(status, Date.now(), columns)}${watch ? '\n' : ''}`)
  }
}

/** The status of one root alone, if one is named. */
function chosen(status: Status, name: string | undefined): Status {
  if (name === undefined) return status
  const device = Object.hasOwn(status.devices, name) ? status.devices[name] : undefined
  if (device === undefined) {
    const names = Object.keys(status.devices).join(', ')
    throw new StorageError('CONFIG', `no device is named "${name}"; there are: ${names}`)
  }
  const exports = Object.entries(status.exports).filter(
    ([, each]) => each.device === name || each.device.startsWith(`${name}/`),
  )
  const state = health(device)
  return { ...status, state, devices: { [name]: device }, exports: Object.fromEntries(exports) }
}
