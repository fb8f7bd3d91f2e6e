import { durationPattern, parseDuration } from '../base/duration.ts'
import { isObject } from '../base/guards.ts'
import { parseSize, sizePattern } from '../base/size.ts'
import { readSchema } from './schema.ts'
import { step, type Problem } from './source.ts'
import { entries } from './tree.ts'

/** What quantities are called in a configuration, by the schema. */
const names = { size: new Set<string>(), duration: new Set<string>(), period: new Set<string>() }
collectNames(readSchema('config.schema.json'))

/** Wherever they stand in the schema: one that is not found here is not checked. */
function collectNames(schema: unknown): void {
  for (const { label, value } of entries(schema, '')) {
    const $ref = isObject(value) ? value['$ref'] : undefined
    for (const [kind, known] of Object.entries(names))
      if ($ref === `#/$defs/${kind}`) known.add(label)
    collectNames(value)
  }
}

/** Bytes per second: slower, a large volume would take a lifetime. */
export const speedMin = 4096

/** Sizes and durations whose form is right but that are no whole number of bytes, or none. */
export function checkQuantities(value: unknown, pointer: string, problems: Problem[]): void {
  if (Array.isArray(value)) {
    for (const [at, each] of value.entries()) checkQuantities(each, step(pointer, at), problems)
    return
  }
  for (const { label, value: each, pointer: place } of entries(value, pointer)) {
    const what = typeof each === 'string' ? fault(label, each) : null
    if (what !== null) problems.push({ what, pointer: place })
    else if (
      label === 'size' &&
      (each === 0 || (typeof each === 'string' && parseSize(each) === 0))
    )
      problems.push({ what: 'found 0; a device has a size', pointer: place })
    else if (label === 'speed' && isBelow(each, speedMin))
      problems.push({ what: `at least ${speedMin} bytes per second are needed`, pointer: place })
    else checkQuantities(each, place, problems)
  }
}

function isBelow(value: unknown, least: number): boolean {
  const size = typeof value === 'string' || typeof value === 'number' ? parseSize(value) : null
  // Zero has words of its own.
  return size !== null && size > 0 && size < least
}

/** What is wrong with a text that is well-formed. */
function fault(label: string, text: string): string | null {
  if (names.size.has(label) && sizePattern.test(text) && parseSize(text) === null)
    return `found "${text}", no whole number of bytes, or too many`
  const time = names.duration.has(label) || names.period.has(label)
  if (time && durationPattern.test(text) && parseDuration(text) === null)
    return `found "${text}", no whole number of milliseconds, or too many`
  return null
}
