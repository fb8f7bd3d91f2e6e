import { isObject } from '../base/guards.ts'
import { step } from './source.ts'

/** An object of a configuration that may be wrong: all of its properties have to be checked. */
export type Loose = Readonly<Record<string, unknown>>

/** A value of the configuration and its place. */
export interface Place {
  readonly value: unknown
  /** Its name in the parent: a leg's name, a part's number, `device` of a layer. */
  readonly label: string
  readonly pointer: string
}

/** A device of the configuration, its place there, and its path in the tree. */
export interface Node {
  readonly device: Loose
  readonly pointer: string
  readonly path: string
}

/** Levels of nested devices: a request needs some of the stack for each. */
export const devicesDeepMax = 100

/** The named values of an object; empty for any other value. */
export function entries(value: unknown, pointer: string): readonly Place[] {
  return isObject(value) ? placesIn(value, pointer) : []
}

/** The values in a list; empty for any other value. */
export function elements(value: unknown, pointer: string): readonly Place[] {
  return Array.isArray(value) ? placesIn(value, pointer) : []
}

function placesIn(values: Loose | unknown[], pointer: string): readonly Place[] {
  return Object.entries(values).map(([label, value]) => ({
    value,
    label,
    pointer: step(pointer, label),
  }))
}

/** The children of a device, by its type: devices in place or names. */
export function childrenOf(device: Loose, pointer: string): readonly Place[] {
  const of = (key: string): Place[] => {
    const value = device[key]
    return value === undefined ? [] : [{ value, label: key, pointer: step(pointer, key) }]
  }
  switch (device['type']) {
    case 'linear':
      return elements(device['parts'], step(pointer, 'parts'))
    case 'mirror':
      return entries(device['legs'], step(pointer, 'legs')).map(legDevice)
    case 'crypt':
    case 'error':
    case 'delay':
    case 'log':
      return of('device')
    default:
      return []
  }
}

/** The device of a leg, which is written in place, or as `device` beside the leg's options. */
function legDevice(leg: Place): Place {
  const { value, label, pointer } = leg
  if (!isObject(value) || 'type' in value || !('device' in value)) return leg
  return { value: value['device'], label, pointer: step(pointer, 'device') }
}
