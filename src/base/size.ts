const units = ['', 'K', 'M', 'G', 'T', 'P'] as const

export const KiB = 1024
export const MiB = 1024 * KiB
export const GiB = 1024 * MiB
export const TiB = 1024 * GiB

/** The form of a size in a configuration: an integer of bytes, or a number and a power of 1024. */
export const sizePattern = /^(\d+)(\.\d+)?([KMGTP]?)$/

/** Parses `64K`, `1.5T` or `4096`. Returns bytes, or null for other texts and parts of a byte. */
export function parseSize(text: string | number): number | null {
  const found = sizePattern.exec(String(text))
  if (found === null) return null
  const scale = 1024 ** units.indexOf(found[3] as (typeof units)[number])
  const bytes = Number(`${found[1]}${found[2] ?? ''}`) * scale
  return Number.isSafeInteger(bytes) ? bytes : null
}

/** Guesses which size a wrong text was meant to be: ` (did you mean "256M"?)`, or ''. */
export function sizeMeant(text: string): string {
  // A comma before one or two digits is a decimal comma; others group digits, as underscores do.
  const plain = text
    .replace(/^(\s*\d+),(\d{1,2}\D*)$/, '$1.$2')
    .replace(/(?<=\d)[,_'](?=\d{3})/g, '')
  const found = /^\s*(\d+)(\.\d+)?\s*([kmgtp])?(i?b?|bytes?)\s*$/i.exec(plain)
  if (found === null) return ''
  const [, whole = '', part = '', unit = '', bytes = ''] = found
  const meant = `${whole}${part}${unit.toUpperCase()}`
  if (parseSize(meant) === null || meant === text) return ''
  // Makers of disks mostly mean powers of ten by MB.
  const decimal = unit !== '' && bytes.toLowerCase() === 'b'
  const power = units.indexOf(unit.toUpperCase() as (typeof units)[number])
  const exactly = Number(`${whole}${part}`) * 1000 ** power
  const other = decimal && Number.isSafeInteger(exactly) ? `, or ${exactly}` : ''
  return ` (did you mean "${meant}"${other}?)`
}

/** Formats bytes in the shortest exact form (`256M`, `4097`), which `parseSize` reads back. */
export function formatSize(bytes: number): string {
  let unit = 0
  while (unit < units.length - 1 && bytes !== 0 && bytes % 1024 === 0) {
    bytes /= 1024
    unit++
  }
  return `${bytes}${units[unit]}`
}

/** Formats bytes for people, rounded to one decimal: `40.2 GiB`. */
export function describeSize(bytes: number): string {
  let unit = 0
  while (unit < units.length - 1 && bytes >= 1024) {
    bytes /= 1024
    unit++
  }
  return unit === 0 ? `${bytes} B` : `${bytes.toFixed(1)} ${units[unit]}iB`
}

/** The largest multiple of `step` that is not above `value`. */
export function roundDown(value: number, step: number): number {
  return value - (value % step)
}

/** The smallest multiple of `step` that is not below `value`. */
export function roundUp(value: number, step: number): number {
  return roundDown(value + step - 1, step)
}
