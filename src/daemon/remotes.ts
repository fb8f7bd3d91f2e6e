import { assert } from '../base/errors.ts'
import type { Driver } from '../device/device.ts'
import type { TlsSide } from '../net/tls/side.ts'
import { clientTls, sourceOfUri } from '../net/tls/uri.ts'
import { parseUri, type ExportUri } from '../net/uri.ts'
import { RemoteDriver } from '../wire/remote.ts'
import type { RemoteOptions } from '../wire/remote-options.ts'
import { NbdDriver } from '../nbd/remote.ts'
import type * as config from '../config/config.types.ts'
import { patienceOf, type TreePlace } from '../config/patience.ts'
import { bytes, milliseconds } from '../config/quantities.ts'
import type { Spot, World } from './world.ts'

/** Makes the driver of a device on another machine. */
export function remote(spot: Spot, device: config.Remote | config.Nbd, world: World): Driver {
  const uri = parseUri(device.uri)
  assert(typeof uri !== 'string', `${device.uri} is a URI`)
  const { address, name } = uri
  const place = spot.leg === null ? 'alone' : 'below-mirror'
  const target = { address, name, ...tlsOf(spot, device, uri, world) }
  return device.type === 'remote'
    ? new RemoteDriver({ ...target, awaitSize: true, ...remoteOptions(device, place) }, world)
    : new NbdDriver({ ...target, ...nbdOptions(device, place) }, world)
}

/**
 * The TLS of a remote; nothing for a URI without it. Files that cannot be used now are looked at
 * again, and the remote is away until they can.
 */
function tlsOf(
  { path }: Spot,
  { credentials: name }: config.Remote | config.Nbd,
  uri: ExportUri,
  { credentials }: World,
): { readonly tls?: TlsSide } {
  if (uri.tls === null) return {}
  assert(credentials !== undefined, 'there are credentials where there is TLS')
  const credential =
    name === undefined
      ? credentials.ofUri(`of ${path}`, sourceOfUri(uri))
      : credentials.of(name, 'client')
  return { tls: clientTls(uri, credential) }
}

/**
 * The options of a remote by its configuration. Below a mirror it follows an export whose device is
 * replaced, because the mirror examines what is on it.
 */
export function remoteOptions(
  device: config.Remote,
  place: TreePlace,
): Omit<RemoteOptions, 'address' | 'name'> {
  return {
    connections: device.connections,
    ...patienceOf({ ...device }, place),
    connectTimeout: milliseconds(device.connectTimeout),
    requestTimeout: milliseconds(device.requestTimeout),
    checksums: device.checksums,
    size: device.size === undefined ? null : bytes(device.size),
    follow: place === 'below-mirror',
  }
}

/** The options of an NBD device by its configuration. */
export function nbdOptions(device: config.Nbd, place: TreePlace = 'alone') {
  return {
    connections: device.connections,
    hold: patienceOf({ ...device }, place).hold,
    connectTimeout: milliseconds(device.connectTimeout),
    requestTimeout: milliseconds(device.requestTimeout),
    quiesce: milliseconds(device.quiesce),
    ...(device.size === undefined ? {} : { size: bytes(device.size) }),
  }
}
