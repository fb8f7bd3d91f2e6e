/**
 * The parts of certificates and lists of revoked ones that Node does not tell. Reads DER, and says
 * null where it is not what it has to be: the files are an operator's, and may be damaged.
 */

const Tag = {
  integer: 0x02,
  utcTime: 0x17,
  time: 0x18,
  sequence: 0x30,
  version: 0xa0,
} as const

/** A list of revoked certificates. */
export interface Revocations {
  /** The name of the authority, as it is encoded. */
  readonly issuer: string
  /** Numbers of the revoked certificates, in hexadecimal as `serialOf` gives them. */
  readonly serials: ReadonlySet<string>
  /** Milliseconds since 1970: when the list is out of date; null when it says nothing. */
  readonly nextUpdate: number | null
}

/** The number of a certificate and the name of its authority, as lists of revoked ones have. */
export interface Issued {
  readonly serial: string
  readonly issuer: string
}

interface Element {
  readonly tag: number
  /** Where its content begins and ends. */
  readonly from: number
  readonly end: number
}

/** The element at `at`; null when it does not lie within `end`. */
function elementAt(bytes: Buffer, at: number, end: number): Element | null {
  if (at + 2 > end) return null
  const tag = bytes[at]!
  const first = bytes[at + 1]!
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f
  const from = at + 2 + lengthBytes
  if (first === 0x80 || lengthBytes > 4 || from > end) return null
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(at + 2, lengthBytes)
  return from + length > end ? null : { tag, from, end: from + length }
}

/** The elements within another one; null when they do not fill it. */
function within(bytes: Buffer, outer: Element | null, tag: number): Element[] | null {
  if (outer?.tag !== tag) return null
  const found: Element[] = []
  for (let at = outer.from; at < outer.end;) {
    const element = elementAt(bytes, at, outer.end)
    if (element === null) return null
    found.push(element)
    at = element.end
  }
  return found
}

/** The signed part, which both kinds begin with. */
function signedPart(bytes: Buffer): Element[] | null {
  const [signed] = within(bytes, elementAt(bytes, 0, bytes.length), Tag.sequence) ?? []
  return signed === undefined ? null : within(bytes, signed, Tag.sequence)
}

function text(bytes: Buffer, { from, end }: Element): string {
  return bytes.toString('hex', from, end)
}

/** Reads what identifies a certificate for its authority. */
export function issuedOf(certificate: Buffer): Issued | null {
  const parts = signedPart(certificate) ?? []
  const [serial, , issuer] = parts[0]?.tag === Tag.version ? parts.slice(1) : parts
  if (serial?.tag !== Tag.integer || issuer?.tag !== Tag.sequence) return null
  return { serial: text(certificate, serial), issuer: text(certificate, issuer) }
}

/** Reads a list of revoked certificates. */
export function parseRevocations(list: Buffer): Revocations | null {
  const parts = signedPart(list) ?? []
  const rest = parts[0]?.tag === Tag.integer ? parts.slice(1) : parts
  const [, issuer, , ...after] = rest
  if (issuer?.tag !== Tag.sequence) return null
  const [next] = after
  const hasNext = next?.tag === Tag.utcTime || next?.tag === Tag.time
  const nextUpdate = hasNext ? parseTime(list, next) : null
  const entries = after[hasNext ? 1 : 0]
  const serials = new Set<string>()
  if (entries?.tag === Tag.sequence) {
    const revoked = within(list, entries, Tag.sequence)
    if (revoked === null) return null
    for (const each of revoked) {
      const [serial] = within(list, each, Tag.sequence) ?? []
      if (serial?.tag !== Tag.integer) return null
      serials.add(text(list, serial))
    }
  }
  return { issuer: text(list, issuer), serials, nextUpdate }
}

/** Milliseconds since 1970 of a time in UTC: years with two digits are of 1950 to 2049. */
function parseTime(bytes: Buffer, { tag, from, end }: Element): number | null {
  const said = bytes.toString('latin1', from, end)
  const found = /^(\d{2,4}?)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(said)
  if (found === null) return null
  const [year = 0, month = 0, day, hour, minute, second] = found.slice(1).map(Number)
  const full = tag === Tag.time ? year : year + (year < 50 ? 2000 : 1900)
  return Date.UTC(full, month - 1, day, hour, minute, second)
}
