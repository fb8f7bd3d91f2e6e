import { systemClock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { Slab } from '../base/slab.ts'
import { Device, type Driver } from '../device/device.ts'
import { parseUri, type ExportUri } from '../net/uri.ts'
import { SocketNetwork } from '../net/sockets.ts'
import { Credential } from '../net/tls/credential.ts'
import type { TlsSide } from '../net/tls/side.ts'
import { clientTls, sourceOfUri } from '../net/tls/uri.ts'
import { defaultRemoteOptions } from '../wire/remote-options.ts'
import { RemoteDriver } from '../wire/remote.ts'
import { NbdDriver } from '../nbd/remote.ts'
import { UsageError } from './exit.ts'

/**
 * Milliseconds for connecting, and again for the handshake: more than a target takes, because
 * nothing else happens until then, and a command is not tried again by itself.
 */
const connectTimeout = 20_000

/** Parses the URI of an export on the command line. Throws a UsageError. */
export function uriOf(text: string): ExportUri {
  const uri = parseUri(text)
  if (typeof uri === 'string') throw new UsageError(`"${text}": ${uri}`)
  return uri
}

/** Milliseconds until a connected server has to answer: its disks may be slow. */
const answerTimeoutMs = 30_000

/**
 * Opens an export in this process. Rejects with a StorageError when it cannot be used now. A
 * request without an answer within `timeout` milliseconds fails. The caller closes the device.
 */
export async function openExport(text: string, timeout = answerTimeoutMs): Promise<Device> {
  const device = new Device(text, driverFor(uriOf(text), timeout), systemClock)
  await device.open()
  if (device.usable) return device
  const { reason } = device.state
  await device.close()
  throw new StorageError('UNAVAILABLE', reason, text)
}

/**
 * The TLS of a URI, nothing where it has none; its files are read now. Throws CONFIG when they
 * cannot be used.
 */
export function tlsOf(uri: ExportUri): { readonly tls?: TlsSide } {
  if (uri.tls === null) return {}
  const credential = new Credential(sourceOfUri(uri), systemClock)
  credential.read()
  if (credential.problem !== '') throw new StorageError('CONFIG', credential.problem)
  return { tls: clientTls(uri, credential) }
}

function driverFor(uri: ExportUri, requestTimeout: number): Driver {
  const { protocol, address, name } = uri
  const world = {
    network: new SocketNetwork(),
    slab: new Slab(),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
  }
  const common = { address, name, ...tlsOf(uri), hold: 0, connectTimeout, requestTimeout }
  if (protocol === 'nbd') return new NbdDriver(common, world)
  // Give up a silent connection no later than a request without an answer.
  const pingTimeout = Math.min(defaultRemoteOptions.pingTimeout, requestTimeout)
  const pingInterval = Math.min(defaultRemoteOptions.pingInterval, pingTimeout / 2)
  return new RemoteDriver({ ...defaultRemoteOptions, ...common, pingTimeout, pingInterval }, world)
}
