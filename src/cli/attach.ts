import { spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import type { Argv } from 'yargs'
import { StorageError } from '../base/errors.ts'
import { parseUri, type ExportUri } from '../net/address.ts'
import { UsageError } from './exit.ts'
import {
  forgetBridge,
  isAttached,
  nbdClient,
  needKernelClient,
  rememberBridge,
  runProgram,
  type Bridge,
} from './kernel.ts'

/** Connections that the kernel opens, where an export says that they all see the same. */
const connectionsDefault = 2
/** Milliseconds for the bridge to say that it is ready. */
const bridgeTimeout = 30_000
/** What every file system and partition table can live with. */
const blockSize = 4096

interface Options {
  readonly uri: string
  readonly device: string
  readonly connections: number
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
        .option('connections', {
          type: 'number',
          default: connectionsDefault,
          describe: 'of the kernel to the export',
        })
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
  const { uri: text, device, hold, readOnly } = options
  const uri = parseUri(text)
  if (typeof uri === 'string') throw new UsageError(`"${text}": ${uri}`)
  needKernelClient(device)
  if (isAttached(device))
    throw new StorageError('CLAIMED', `${device} is in use; dst detach ${device} frees it`)
  if (uri.protocol === 'nbd') {
    if (hold !== undefined) throw new UsageError('--hold needs a bridge, for dst:// alone')
    await connect(uri, options)
    return
  }
  const bridge = await startBridge(text, device, hold, readOnly)
  try {
    await connect({ ...uri, address: { kind: 'unix', path: bridge.socket } }, options)
    rememberBridge(device, bridge)
  } catch (error) {
    process.kill(bridge.pid)
    throw error
  }
}

/** Hands the connections to the kernel. It does not reconnect: a bridge never goes away. */
async function connect({ address, name }: ExportUri, options: Options): Promise<void> {
  const { device, connections, readOnly } = options
  const place =
    address.kind === 'unix' ? ['-unix', address.path] : [address.host, String(address.port)]
  const args = [...place, device, '-N', name, '-b', String(blockSize)]
  if (readOnly) args.push('-R')
  const several = connections > 1 ? ['-C', String(connections)] : []
  try {
    await runProgram(nbdClient, [...args, ...several])
  } catch (error) {
    // Refused when the export does not promise that its connections see the same.
    if (several.length === 0 || isAttached(device)) throw error
    await runProgram(nbdClient, args)
  }
  process.stdout.write(`${device} is attached\n`)
}

/** Starts a bridge that outlives this command. Its log is beside its socket. */
async function startBridge(
  uri: string,
  device: string,
  hold: string | undefined,
  readOnly: boolean,
): Promise<Bridge> {
  const { socket, log } = forgetBridge(device)
  const args = ['bridge', uri, '--listen', `unix:${socket}`]
  if (hold !== undefined) args.push('--hold', hold)
  if (readOnly) args.push('--read-only')
  const child = spawn(process.execPath, [process.argv[1]!, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', openSync(log, 'w', 0o600)],
  })
  const { stdout, pid } = child
  if (stdout === null || pid === undefined)
    throw new StorageError('IO', 'the bridge could not be started')
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string): void => {
      child.kill()
      reject(new StorageError('UNAVAILABLE', `the bridge ${why}; see ${log}`))
    }
    const timer = setTimeout(fail, bridgeTimeout, `was not ready in ${bridgeTimeout} ms`)
    let said = ''
    stdout.on('data', (text: Buffer) => {
      said += text.toString()
      if (!/^ready$/m.test(said)) return
      clearTimeout(timer)
      resolve()
    })
    child.once('exit', (code) => fail(`ended with exit code ${code ?? 'none'}`))
  })
  child.removeAllListeners('exit')
  stdout.destroy()
  child.unref()
  return { socket, log, pid }
}

async function undo(device: string): Promise<void> {
  needKernelClient(device)
  if (!isAttached(device)) throw new StorageError('INVALID', `${device} is not attached`)
  await runProgram(nbdClient, ['-d', device])
  const { pid } = forgetBridge(device)
  if (pid !== 0) process.kill(pid)
  process.stdout.write(`${device} is detached\n`)
}
