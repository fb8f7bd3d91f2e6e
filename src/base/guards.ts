/** True for an object of JSON, false for an array and null. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text; '' for a value that is none. */
export function asText(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** True for a whole number that is not negative: a size, a count or a moment. */
export function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

/** The latest wall-clock time that a Date can have, in milliseconds. */
export const wallMax = 8.64e15

/** True for a wall-clock time in milliseconds that can be shown. */
export function isMoment(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= wallMax
}

/** The value that a text of JSON stands for; undefined for any other text. */
export function fromJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The properties that have a value: where one may be absent, it may not be undefined. */
export function defined<T extends object>(
  object: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const there = Object.entries(object).filter(([, value]) => value !== undefined)
  return Object.fromEntries(there) as { [K in keyof T]?: Exclude<T[K], undefined> }
}

/** True for 1, 2, 4 and so on, up to 2^53; false for fractions. */
export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value))
}
