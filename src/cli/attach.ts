import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import { durationMeant, parseDuration } from '../base/duration.ts'
import { StorageError } from '../base/errors.ts'
import { formatUri, type ExportUri } from '../net/address.ts'
import { startBridge, stopBridge } from './background.ts'
import { UsageError } from './exit.ts'
import {
  claimDevice,
  detached,
  flushDevice,
  isAttached,
  nbdClient,
  needKernelClient,
  runProgram,
} from './kernel.ts'
import { openExport, uriOf } from './open.ts'
import { printLine } from './print.ts'

/** Bytes: what a disk's blocks mostly are, hence what file systems and partition tables expect. */
const blockSizeMin = 512
/** Bytes: the largest that the kernel's client takes. */
const blockSizeMax = 4096

interface Options {
  readonly uri: string
  readonly device: string
  readonly hold: string | undefined
  readonly readOnly: boolean
}

export function attach(yargs: Argv): Argv {
  return yargs.command(
    'attach <uri> <device>',
    "attach an export as a disk of this machine, by the kernel's NBD client",
    (options) =>
      options
        .positional('uri', { type: 'string', demandOption: true, describe: 'the export' })
        .positional('device', { type: 'string', demandOption: true, describe: '/dev/nbd0 to …' })
        .option('hold', {
          type: 'string',
          describe: 'how long requests wait while a dst:// export is away, such as 5m',
        })
        .option('read-only', { type: 'boolean', default: false, describe: 'refuse writes' })
        .example('dst attach dst://10.0.0.2/home /dev/nbd0 --hold 5m', 'by a bridge that stays')
        .example('dst attach nbd://127.0.0.1/home /dev/nbd0', 'straight to an NBD server')
        .epilogue(
          'Needs root, the nbd module and the program nbd-client. Exit codes: 0 attached, 1 it ' +
            'could not be, 2 wrong usage.',
        ),
    (options) => run(options),
  )
}

export function detach(yargs: Argv): Argv {
  return yargs.command(
    'detach <device>',
    'undo attach; unmount first',
    (options) =>
      options
        .positional('device', { type: 'string', demandOption: true, describe: '/dev/nbd0 to …' })
        .example('dst detach /dev/nbd0', 'flush, disconnect, and stop the bridge')
        .example(
          'dst detach /dev/nbd1 --verbose',
          'the same of another one, with a stack if it fails',
        )
        .epilogue('Exit codes: 0 detached, 1 it could not be, 2 wrong usage.'),
    ({ device }) => undo(device),
  )
}

async function run(options: Options): Promise<void> {
  const { uri: text, device, hold } = options
  const uri = uriOf(text)
  if (hold !== undefined && uri.protocol === 'nbd')
    throw new UsageError('--hold needs a bridge, for dst:// alone')
  if (hold !== undefined && parseDuration(hold) === null)
    throw new UsageError(`--hold ${hold}: not a time such as 90s or 5m${durationMeant(hold)}`)
  needKernelClient(device)
  const claim = await claimDevice(device)
  try {
    if (isAttached(device))
      throw new StorageError('CLAIMED', `${device} is in use; dst detach ${device} frees it`)
    // Of a device that was disconnected by other means.
    await stopBridge(device)
    const blockSize = await blockSizeOf(text)
    if (uri.protocol === 'nbd') await connect(uri, options, blockSize)
    else await connectByBridge(uri, options, blockSize)
  } finally {
    await claim.close()
  }
  printLine(`${device} is attached`)
}

/** Also finds out whether the export can be used at all, and says why not. */
async function blockSizeOf(uri: string): Promise<number> {
  const exported = await openExport(uri)
  const { blockSize } = exported.facts!
  await exported.close()
  if (blockSize <= blockSizeMax) return Math.max(blockSize, blockSizeMin)
  const most = `the kernel's client takes at most ${blockSizeMax}`
  throw new StorageError('UNSUPPORTED', `its blocks have ${blockSize} bytes; ${most}`, uri)
}

async function connectByBridge(uri: ExportUri, options: Options, blockSize: number): Promise<void> {
  const { device, hold, readOnly } = options
  const { address } = uri
  // The bridge runs in another folder.
  const place = address.kind === 'unix' ? { ...address, path: resolve(address.path) } : address
  const flags = [
    ...(hold === undefined ? [] : ['--hold', hold]),
    ...(readOnly ? ['--read-only'] : []),
  ]
  try {
    const path = await startBridge(device, formatUri({ ...uri, address: place }), flags)
    await connect({ ...uri, address: { kind: 'unix', path } }, options, blockSize)
  } catch (error) {
    await stopBridge(device)
    throw error
  }
}

/**
 * Hands a connection to the kernel. It does not reconnect: a bridge never goes away. And it is one:
 * of several the kernel gives each up that has not answered for 30 s, and fails what was on the
 * last of them, whereas on a single one it waits for as long as the other side holds the request.
 */
async function connect(
  { address, name }: ExportUri,
  { device, readOnly }: Options,
  blockSize: number,
): Promise<void> {
  const place =
    address.kind === 'unix' ? ['-unix', address.path] : [address.host, String(address.port)]
  const args = [...place, device, '-N', name, '-b', String(blockSize)]
  await runProgram(nbdClient, readOnly ? [...args, '-R'] : args)
}

async function undo(device: string): Promise<void> {
  needKernelClient(device)
  const claim = await claimDevice(device)
  try {
    if (isAttached(device)) {
      await flushDevice(device)
      await runProgram(nbdClient, ['-d', device])
      await detached(device)
      await stopBridge(device)
    } else {
      await stopBridge(device)
      throw new StorageError('INVALID', `${device} is not attached`)
    }
  } finally {
    await claim.close()
  }
  printLine(`${device} is detached`)
}
