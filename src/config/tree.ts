import { isObject } from '../base/guards.ts'
import { step } from './source.ts'

/** A part of a configuration that may still be wrong: nothing is taken for granted. */
export type Loose = Readonly<Record<string, unknown>>

/** A value and where it stands. */
export interface Place {
  readonly value: unknown
  /** What its parent calls it: a leg's name, a part's number, `device` of a fault layer. */
  readonly label: string
  readonly pointer: string
}

/** A device of the configuration, where it stands, and its path in the tree. */
export interface Node {
  readonly device: Loose
  readonly pointer: string
  readonly path: string
}

/** How deep devices can be nested: a request takes some of the stack in each. */
export const devicesDeepMax = 100

/** The named values of an object; none if it is not an object. */
export function entries(value: unknown, pointer: string): readonly Place[] {
  if (!isObject(value)) return []
  return Object.entries(value).map(([label, each]) => ({
    value: each,
    label,
    pointer: step(pointer, label),
  }))
}

/** The children of a device as its type has them: devices in place or names. */
export function childrenOf(device: Loose, pointer: string): readonly Place[] {
  const of = (key: string): Place[] => {
    const value = device[key]
    return value === undefined ? [] : [{ value, label: key, pointer: step(pointer, key) }]
  }
  switch (device['type']) {
    case 'linear': {
      const { parts } = device
      if (!Array.isArray(parts)) return []
      const place = step(pointer, 'parts')
      return parts.map((value: unknown, at) => ({
        value,
        label: String(at),
        pointer: step(place, at),
      }))
    }
    case 'mirror':
      return entries(device['legs'], step(pointer, 'legs')).map(legDevice)
    case 'error':
    case 'delay':
    case 'log':
      return of('device')
    default:
      return []
  }
}

/** A leg is a child, or an object with more to say about it that has the child as `device`. */
function legDevice(leg: Place): Place {
  const { value, label, pointer } = leg
  if (!isObject(value) || 'type' in value || !('device' in value)) return leg
  return { value: value['device'], label, pointer: step(pointer, 'device') }
}
