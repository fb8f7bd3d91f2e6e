import { assert } from '../base/errors.ts'
import { parseSecretSource } from '../base/secret.ts'
import type { Device, Driver } from '../device/device.ts'
import { CryptDriver } from '../devices/crypt/crypt.ts'
import { DelayDriver } from '../devices/faults/delay.ts'
import { ErrorDriver, type ErrorOptions } from '../devices/faults/error.ts'
import { LogDriver } from '../devices/faults/log.ts'
import type * as config from '../config/config.types.ts'
import { bytes, milliseconds } from '../config/quantities.ts'
import type { World } from './world.ts'

/** Makes the driver of a layer above `below`. */
export function layer(
  layer: config.Crypt | config.Error | config.Delay | config.LogLayer,
  below: Device,
  { slab, clock, random, log, requestLog = log }: World,
): Driver {
  if (layer.type === 'crypt') {
    const key = parseSecretSource(layer.key)
    assert(typeof key !== 'string', `${layer.key} is the place of a key`)
    return new CryptDriver(below, { key, discard: layer.discard }, { slab, clock })
  }
  const { operations } = layer
  const chosen = operations === undefined ? {} : { operations }
  switch (layer.type) {
    case 'error':
      return new ErrorDriver(below, { ...chosen, ...errorOptions(layer) }, random)
    case 'delay': {
      const min = milliseconds(layer.min)
      const max = layer.max === undefined ? min : milliseconds(layer.max)
      return new DelayDriver(below, { ...chosen, min, max }, clock, random)
    }
    case 'log':
      return new LogDriver(below, { ...chosen, level: layer.level }, requestLog, clock)
  }
}

function errorOptions(layer: config.Error): ErrorOptions {
  const { range, probability, whileFileExists, code } = layer
  return {
    code,
    ...(range === undefined
      ? {}
      : { range: { offset: bytes(range.offset), length: bytes(range.length) } }),
    ...(probability === undefined ? {} : { probability }),
    ...(whileFileExists === undefined ? {} : { whileFileExists }),
  }
}
