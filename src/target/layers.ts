import { StorageError } from '../base/errors.ts'
import type { Device, Driver } from '../device/device.ts'
import type { World } from './build.ts'
import type * as config from './config.types.ts'

/** The driver of a fault layer above `below`. */
export function layer(
  layer: config.Error | config.Delay | config.LogLayer,
  below: Device,
  { log }: World,
): Driver {
  log.warn({ device: below.path }, `${layer.type} is not available yet`)
  throw new StorageError('UNSUPPORTED', `${layer.type} is not available yet`, below.path)
}
