/** Letters of the longest word that is compared: the time grows with its length. */
const lettersMax = 200

/**
 * The nearest of `words` to a mistyped one; null when none is near.
 */
export function nearest(word: string, words: readonly string[]): string | null {
  if (word.length > lettersMax) return null
  let best: string | null = null
  let least = Math.min(Math.floor(word.length / 3) + 2, word.length)
  for (const candidate of words) {
    const steps = distance(word.toLowerCase(), candidate.toLowerCase())
    if (steps < least) {
      least = steps
      best = candidate
    }
  }
  return best
}

/** Suggests the nearest of `words`: ` (did you mean "size"?)`, '' when none is near. */
export function suggestion(word: string, words: readonly string[]): string {
  const found = nearest(word, words)
  return found === null ? '' : ` (did you mean "${found}"?)`
}

/** Steps between two words: letters put in, left out, replaced, or neighbours exchanged. */
function distance(a: string, b: string): number {
  // Damerau and Levenshtein's table, of which three rows are enough.
  let before: number[] = []
  let above = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let steps = Math.min(row[j - 1]! + 1, above[j]! + 1, above[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        steps = Math.min(steps, before[j - 2]! + 1)
      row.push(steps)
    }
    before = above
    above = row
  }
  return above[b.length]!
}
