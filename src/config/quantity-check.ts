import { durationPattern, parseDuration } from '../base/duration.ts'
import { isObject } from '../base/guards.ts'
import { parseSize, sizePattern } from '../base/size.ts'
import { sizeOf } from './quantities.ts'
import { readSchema } from './schema.ts'
import type { Problem } from './source.ts'
import { elements, entries } from './tree.ts'

/** The names of the properties that are quantities, from the schema. */
const names = { size: new Set<string>(), duration: new Set<string>(), period: new Set<string>() }
collectNames(readSchema('config.schema.json'))

/** Collects the names from all of the schema: a quantity that is missed here is not checked. */
function collectNames(schema: unknown): void {
  for (const { label, value } of entries(schema, '')) {
    const $ref = isObject(value) ? value['$ref'] : undefined
    for (const [kind, known] of Object.entries(names))
      if ($ref === `#/$defs/${kind}`) known.add(label)
    collectNames(value)
  }
}

/** The lowest speed, in bytes per second: a large volume would take a lifetime with less. */
export const speedMin = 4096

/** Finds sizes and durations of the right form that are zero, too large or no whole number. */
export function checkQuantities(value: unknown, pointer: string, problems: Problem[]): void {
  for (const each of elements(value, pointer)) checkQuantities(each.value, each.pointer, problems)
  for (const { label, value: each, pointer: place } of entries(value, pointer)) {
    const what = typeof each === 'string' ? fault(label, each) : null
    const size = sizeOf(each)
    if (what !== null) problems.push({ what, pointer: place })
    else if (label === 'size' && size === 0)
      problems.push({ what: 'found 0; a device has a size', pointer: place })
    // Another check reports a speed of zero.
    else if (label === 'speed' && size !== null && size > 0 && size < speedMin)
      problems.push({ what: `at least ${speedMin} bytes per second are needed`, pointer: place })
    else checkQuantities(each, place, problems)
  }
}

/** Says what is wrong with a quantity of the right form; null if it is right. */
function fault(label: string, text: string): string | null {
  if (names.size.has(label) && sizePattern.test(text) && parseSize(text) === null)
    return `found "${text}", no whole number of bytes, or too many`
  const time = names.duration.has(label) || names.period.has(label)
  if (time && durationPattern.test(text) && parseDuration(text) === null)
    return `found "${text}", no whole number of milliseconds, or too many`
  return null
}
