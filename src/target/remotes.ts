import { StorageError } from '../base/errors.ts'
import type { Driver } from '../device/device.ts'
import type { Spot, World } from './build.ts'
import type * as config from './config.types.ts'

/** The driver of a device on another machine. */
export function remote(
  { path, belowMirror: follow }: Spot,
  device: config.Remote | config.Nbd,
  { log }: World,
): Driver {
  log.debug({ follow }, device.type)
  throw new StorageError('UNSUPPORTED', `${device.type} is not available yet`, path)
}
