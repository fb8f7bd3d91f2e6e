/** Bytes of an identity, as servers of all makes take it, and of a key. */
const identityBytesMax = 128
const keyBytesMin = 16
const keyBytesMax = 256

/** Keys that both sides know, by the identity of the side that connects. */
export type Keys = ReadonlyMap<string, Buffer>

/**
 * Reads a file of keys as `psktool` writes it: a line `identity:hex` for each. An identity with
 * characters that would be in the way stands as hexadecimal digits behind a `#`; other lines that
 * begin with `#` are comments. Returns a sentence that says why when it cannot be used.
 */
export function parseKeys(text: string): Keys | string {
  const keys = new Map<string, Buffer>()
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    if (line === '' || isComment(line)) continue
    const found = parseLine(line)
    if (typeof found === 'string') return `line ${at + 1}: ${found}`
    if (keys.has(found.identity)) return `line ${at + 1}: the identity is there already`
    keys.set(found.identity, found.key)
  }
  return keys.size === 0 ? 'it has no key; psktool makes one' : keys
}

const encodedName = /^#(?:[0-9a-f]{2})+:/i

function isComment(line: string): boolean {
  return line.startsWith('#') && !encodedName.test(line)
}

function parseLine(line: string): { identity: string; key: Buffer } | string {
  // No character of the line is shown: it may be part of a key.
  const split = line.lastIndexOf(':')
  if (split <= 0) return 'it is not identity:key'
  const identity = decodeName(line.slice(0, split))
  const digits = line.slice(split + 1)
  if (identity === null || identity === '') return 'the identity is no text'
  if (Buffer.byteLength(identity) > identityBytesMax)
    return `the identity has more than ${identityBytesMax} bytes`
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) return 'the key is not hexadecimal'
  const key = Buffer.from(digits, 'hex')
  if (key.length >= keyBytesMin && key.length <= keyBytesMax) return { identity, key }
  return `the key has ${key.length} bytes; allowed: ${keyBytesMin} to ${keyBytesMax}`
}

function decodeName(name: string): string | null {
  const bytes = name.startsWith('#') ? Buffer.from(name.slice(1), 'hex') : Buffer.from(name)
  const text = bytes.toString()
  const isText = bytes.equals(Buffer.from(text)) && !/\p{Cc}/u.test(text)
  return isText ? text : null
}
