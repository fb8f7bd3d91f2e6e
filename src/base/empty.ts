/**
 * Empties an array that is going to be filled again. `length = 0` would free its memory, and the
 * next push would allocate it again: that would be most of what a request allocates.
 */
export function empty(array: unknown[]): void {
  while (array.length > 0) array.pop()
}
