/**
 * Empties an array that is going to be filled again. `length = 0` would throw its memory away, and
 * the next push allocate it anew: per request that is most of what is allocated.
 */
export function empty(array: unknown[]): void {
  while (array.length > 0) array.pop()
}
