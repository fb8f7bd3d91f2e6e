import { assert } from '../base/errors.ts'
import type { Driver } from '../device/device.ts'
import { parseUri } from '../net/address.ts'
import { RemoteDriver } from '../wire/remote.ts'
import type { RemoteOptions } from '../wire/remote-options.ts'
import { NbdDriver } from '../nbd/remote.ts'
import type * as config from '../config/config.types.ts'
import { patienceOf } from '../config/patience.ts'
import { bytes, milliseconds } from '../config/quantities.ts'
import type { Spot, World } from './world.ts'

/** The driver of a device on another machine. */
export function remote(spot: Spot, device: config.Remote | config.Nbd, world: World): Driver {
  const { address, name } = exportAt(device.uri)
  return device.type === 'remote'
    ? new RemoteDriver(
        { address, name, awaitSize: true, ...remoteOptions(device, spot.leg !== null) },
        world,
      )
    : new NbdDriver({ address, name, ...nbdOptions(device, spot.leg !== null) }, world)
}

function exportAt(text: string) {
  const uri = parseUri(text)
  assert(typeof uri !== 'string', `${text} is a URI`)
  return uri
}

/** `follow`: somebody above looks at what is on the device, whichever it is. */
export function remoteOptions(
  device: config.Remote,
  follow: boolean,
): Omit<RemoteOptions, 'address' | 'name'> {
  return {
    connections: device.connections,
    ...patienceOf({ ...device }, follow),
    connectTimeout: milliseconds(device.connectTimeout),
    requestTimeout: milliseconds(device.requestTimeout),
    checksums: device.checksums,
    size: device.size === undefined ? null : bytes(device.size),
    follow,
  }
}

export function nbdOptions(device: config.Nbd, belowMirror = false) {
  return {
    connections: device.connections,
    hold: patienceOf({ ...device }, belowMirror).hold,
    connectTimeout: milliseconds(device.connectTimeout),
    requestTimeout: milliseconds(device.requestTimeout),
    quiesce: milliseconds(device.quiesce),
    ...(device.size === undefined ? {} : { size: bytes(device.size) }),
  }
}
