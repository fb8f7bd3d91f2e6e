import { assert } from '../base/errors.ts'
import { defined } from '../base/guards.ts'
import { parseSecretSource } from '../base/secret.ts'
import type { Device, Driver } from '../device/device.ts'
import { CryptDriver } from '../devices/crypt/crypt.ts'
import { DelayDriver } from '../devices/faults/delay.ts'
import { ErrorDriver } from '../devices/faults/error.ts'
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
  const chosen = defined({ operations: layer.operations })
  switch (layer.type) {
    case 'error': {
      const { probability, whileFileExists, code, range: part } = layer
      const range = part && { offset: bytes(part.offset), length: bytes(part.length) }
      const conditions = defined({ range, probability, whileFileExists })
      return new ErrorDriver(below, { ...chosen, code, ...conditions }, random)
    }
    case 'delay': {
      const min = milliseconds(layer.min)
      const max = layer.max === undefined ? min : milliseconds(layer.max)
      return new DelayDriver(below, { ...chosen, min, max }, clock, random)
    }
    case 'log':
      return new LogDriver(below, { ...chosen, level: layer.level }, requestLog, clock)
  }
}
