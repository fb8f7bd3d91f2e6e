import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import { durationMeant, parseDuration } from '../base/duration.ts'
import { StorageError } from '../base/errors.ts'
import { formatUri, withPaths, type ExportUri } from '../net/uri.ts'
import { bridgeDied, startBridge, stopBridge } from './background.ts'
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
import { printLine, printWarning } from './print.ts'
import { flag, optional, required } from './options.ts'

/** Bytes of most disks' blocks, which file systems and partition tables expect. */
const blockSizeMin = 512
/** Bytes of the largest block that the kernel's client takes. */
const blockSizeMax = 4096

interface Options {
  readonly uri: string
  readonly device: string
  readonly hold: string | undefined
  readonly readOnly: boolean
}

/** Adds `dst attach`: makes an export a disk of this machine. */
export function attach(yargs: Argv): Argv {
  return yargs.command(
    'attach <uri> <device>',
    "attach an export as a disk of this machine, by the kernel's NBD client",
    (options) =>
      options
        .positional('uri', required('the export'))
        .positional('device', required('/dev/nbd0 to …'))
        .option(
          'hold',
          optional('how long requests wait while a dst:// export is away, such as 5m'),
        )
        .option('read-only', flag('refuse writes'))
        .example('dst attach dst://10.0.0.2/home /dev/nbd0 --hold 5m', 'by a bridge that stays')
        .example('dst attach nbd://127.0.0.1/home /dev/nbd0', 'straight to an NBD server')
        .epilogue(
          'Needs root, the nbd module and the program nbd-client. Exit codes: 0 attached, 1 it ' +
            'could not be, 2 wrong usage.',
        ),
    (options) => run(options),
  )
}

/** Adds `dst detach`: takes such a disk off. */
export function detach(yargs: Argv): Argv {
  return yargs.command(
    'detach <device>',
    'undo attach; unmount first',
    (options) =>
      options
        .positional('device', required('/dev/nbd0 to …'))
        .example('dst detach /dev/nbd0', 'flush, disconnect, and stop the bridge')
        .option('force', flag('even if it cannot be flushed: the last writes are lost'))
        .example('dst detach /dev/nbd1 --force', 'when its bridge or its target is gone for good')
        .epilogue('Exit codes: 0 detached, 1 it could not be, 2 wrong usage.'),
    (options) => undo(options),
  )
}

async function run(options: Options): Promise<void> {
  const { uri: text, device, hold } = options
  const uri = uriOf(text)
  // The kernel knows no TLS: a bridge has it.
  const isStraight = uri.protocol === 'nbd' && uri.tls === null
  if (hold !== undefined && isStraight)
    throw new UsageError('--hold needs a bridge, which nbd:// without TLS does not have')
  if (hold !== undefined && parseDuration(hold) === null)
    throw new UsageError(`--hold ${hold}: not a time such as 90s or 5m${durationMeant(hold)}`)
  needKernelClient(device)
  const claim = await claimDevice(device)
  try {
    if (isAttached(device))
      throw new StorageError('CLAIMED', `${device} is in use; ${wayOut(device)} frees it`)
    // A bridge may be left from a device that was disconnected by other means.
    await stopBridge(device)
    const { blockSize, rest } = await blocksOf(text)
    if (isStraight) await connect(uri, options, blockSize)
    else await connectByBridge(uri, options, blockSize)
    const without = `, without its last ${rest} bytes: disks are made of blocks of ${blockSize}`
    printLine(`${device} is attached${rest === 0 ? '' : without}`)
  } finally {
    await claim.close()
  }
}

/**
 * Resolves to the size of the disk's blocks, and the bytes behind the last whole one, which the
 * kernel leaves out. Rejects with a StorageError if the export cannot be used.
 */
async function blocksOf(uri: string): Promise<{ blockSize: number; rest: number }> {
  const exported = await openExport(uri)
  const { size, blockSize: own } = exported.facts!
  await exported.close()
  const blockSize = Math.max(own, blockSizeMin)
  if (blockSize <= blockSizeMax) return { blockSize, rest: size % blockSize }
  const most = `the kernel's client takes at most ${blockSizeMax}`
  throw new StorageError('UNSUPPORTED', `its blocks have ${own} bytes; ${most}`, uri)
}

async function connectByBridge(uri: ExportUri, options: Options, blockSize: number): Promise<void> {
  const { device, hold, readOnly } = options
  // The bridge runs in another folder.
  const there = formatUri(withPaths(uri, (path) => resolve(path)))
  const flags = [
    ...(hold === undefined ? [] : ['--hold', hold]),
    ...(readOnly ? ['--read-only'] : []),
  ]
  try {
    const path = await startBridge(device, there, flags)
    await connect({ ...uri, address: { kind: 'unix', path } }, options, blockSize)
  } catch (error) {
    await stopBridge(device)
    throw error
  }
}

/**
 * Hands a connection to the kernel, which does not reconnect: a bridge never goes away. Just one,
 * because of several the kernel gives up each that has not answered for 30 s, and fails the
 * requests on the last of them; on a single one it waits for as long as the other side holds the
 * request.
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

async function undo({ device, force }: { device: string; force: boolean }): Promise<void> {
  needKernelClient(device)
  const claim = await claimDevice(device)
  try {
    if (isAttached(device)) {
      await flushDevice(device).catch((error: unknown) => {
        if (!(error instanceof StorageError) || error.code === 'CLAIMED') throw error
        if (!force) throw cannotFlush(device, error)
        printWarning(`${error.message}: what was written last may be lost`)
      })
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

function cannotFlush(device: string, { code, message }: StorageError): StorageError {
  const why = bridgeDied(device) ? 'its bridge has died' : 'the server of its data does not answer'
  const loss = 'writes that were not flushed are lost then'
  return new StorageError(code, `${message}: ${why}; ${wayOut(device)} detaches it, ${loss}`)
}

/** The command that detaches the device, also without its bridge. */
function wayOut(device: string): string {
  return `dst detach ${device}${bridgeDied(device) ? ' --force' : ''}`
}
