const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** The form of a time in a configuration: a number and its unit. */
export const durationPattern = /^(\d+)(\.\d+)?(ms|s|m|h)$/

/**
 * Parses `500ms`, `1.5s`, `5m`, `1h` or an integer of milliseconds. Returns milliseconds, or null
 * for any other text and for fractions of a millisecond.
 */
export function parseDuration(text: string | number): number | null {
  const found = durationPattern.exec(typeof text === 'number' ? `${text}ms` : text)
  if (found === null) return null
  const milliseconds = Number(`${found[1]}${found[2] ?? ''}`) * units[found[3]!]!
  return Number.isSafeInteger(milliseconds) ? milliseconds : null
}

/** Guesses which time a wrong text was meant to be: ` (did you mean "5m"?)`, '' without a guess. */
export function durationMeant(text: string): string {
  const found = /^\s*(\d+)(\.\d+)?\s*([a-z]*)\s*$/i.exec(text)
  if (found === null) return ''
  const [, whole = '', part = '', word = ''] = found
  const name = word.toLowerCase()
  const days = /^d(ays?)?$/.test(name)
  const unit = /^(ms|milli.*)$/.test(name) ? 'ms' : days ? 'h' : name === '' ? 's' : name[0]!
  const meant = `${days ? 24 * Number(`${whole}${part}`) : `${whole}${part}`}${unit}`
  return parseDuration(meant) === null || meant === text ? '' : ` (did you mean "${meant}"?)`
}

/** Formats a time for people, in its two largest units: `5m 41s`, `2h 3m`, `12s`. */
export function describeDuration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000)
  if (seconds < 60) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m ${seconds % 60}s`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours}h ${minutes % 60}m` : `${Math.floor(hours / 24)}d ${hours % 24}h`
}
