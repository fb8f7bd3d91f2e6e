import { assert } from '../../base/errors.ts'
import { GiB, KiB } from '../../base/size.ts'
import type { Hash } from './splitter.ts'

/** What both versions of LUKS say of an encrypted device, after every value was checked. */

/** The way from a passphrase to the key of a keyslot. */
export type Kdf =
  | { readonly kind: 'pbkdf2'; readonly hash: Hash; readonly iterations: number; salt: Buffer }
  | {
      readonly kind: 'argon2i' | 'argon2id'
      readonly passes: number
      readonly memory: number
      readonly lanes: number
      readonly salt: Buffer
    }

/** A place that holds the volume key, sealed by a passphrase. */
export interface Keyslot {
  readonly id: number
  readonly kdf: Kdf
  /** The hash of the splitter. */
  readonly hash: Hash
  /** Bytes of the volume key. */
  readonly keyBytes: number
  /** The place of the stripes on the device, and the bytes that are reserved for them. */
  readonly offset: number
  readonly reserved: number
  /** Bytes of the key that seals the stripes. */
  readonly areaKeyBytes: number
  /** 0: only where it is asked for; higher ones are tried first. */
  readonly priority: number
}

/** Tells the volume key from a wrong one. */
export interface KeyDigest {
  readonly hash: Hash
  readonly iterations: number
  readonly salt: Buffer
  readonly value: Buffer
}

export interface Header {
  readonly format: 'luks1' | 'luks2'
  readonly uuid: string
  readonly keyBytes: number
  /** The byte of the device below where the data begin. */
  readonly payload: number
  /** Bytes of the data; null for all that is there. */
  readonly size: number | null
  /** Bytes that are encrypted as one. */
  readonly sectorBytes: 512 | 1024 | 2048 | 4096
  /** Added to the number of each sector, in units of 512 bytes. */
  readonly firstSector: number
  readonly digest: KeyDigest
  readonly keyslots: readonly Keyslot[]
}

/** Why a header is of no use; `absent` where there is none at all. */
export interface Fault {
  readonly kind: 'absent' | 'damaged' | 'unsupported'
  readonly reason: string
}

/** The only cipher: what every header in use has had since 2013. */
export const cipher = 'aes-xts-plain64'

/** Bytes of memory that a keyslot may ask for: the most that cryptsetup asks for by itself. */
export const memoryMax = 1 * GiB
/** Bytes that a keyslot may have gone over, all passes together: less than a minute. */
export const workMax = 16 * GiB
/** Iterations that a keyslot or digest may ask for: a minute or two. */
export const iterationsMax = 100_000_000
/** Bytes of a salt. */
export const saltBytesMax = 256

/** Thrown by parsers for themselves: `parsed` makes it a value. */
export class HeaderFault extends Error {
  readonly kind: Fault['kind']

  constructor(kind: Fault['kind'], reason: string) {
    super(reason)
    this.kind = kind
  }
}

/** Returns what `parse` does, or the fault that it threw. */
export function parsed<T>(parse: () => T): T | Fault {
  try {
    return parse()
  } catch (error) {
    if (error instanceof HeaderFault) return { kind: error.kind, reason: error.message }
    throw error
  }
}

/** True for a fault, false for any header. */
export function isFault(value: object): value is Fault {
  return 'reason' in value
}

/** Refuses a header unless the condition holds. */
export function must(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new HeaderFault('damaged', reason)
}

/** Refuses a header that is right, but asks for what we do not have. */
export function mustSupport(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new HeaderFault('unsupported', reason)
}

/** Refuses a derivation of a key that asks for too much of this machine. */
export function checkKdf(kdf: Kdf): void {
  must(kdf.salt.length >= 8 && kdf.salt.length <= saltBytesMax, 'a salt has a wrong length')
  if (kdf.kind === 'pbkdf2') {
    must(kdf.iterations > 0, 'a keyslot has no iterations')
    mustSupport(kdf.iterations <= iterationsMax, `${kdf.iterations} iterations take too long`)
    return
  }
  const { memory, passes, lanes } = kdf
  must(passes >= 1 && lanes >= 1 && lanes <= 255, 'a keyslot has a wrong number of passes')
  must(memory >= 8 * KiB * lanes, 'a keyslot has too little memory')
  mustSupport(memory <= memoryMax, `a keyslot asks for ${memory} bytes of memory`)
  mustSupport(memory * passes <= workMax, `${passes} passes over ${memory} bytes take too long`)
}

/** Text of a field that is filled up with zeroes. Refuses what cannot be shown. */
export function textOf(field: Buffer, name: string): string {
  const end = field.indexOf(0)
  const text = field.toString('latin1', 0, end === -1 ? field.length : end)
  must(/^[\x20-\x7e]*$/.test(text), `the ${name} is no text`)
  return text
}

/** A field of `length` bytes with the text, filled up with zeroes. */
export function fieldOf(text: string, length: number): Buffer {
  assert(text.length < length, 'a text fits into its field')
  const field = Buffer.alloc(length)
  field.write(text, 'latin1')
  return field
}

export const uuidPattern = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/
