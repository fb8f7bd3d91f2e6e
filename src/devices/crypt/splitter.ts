import { createHash } from 'node:crypto'

/**
 * The anti-forensic splitter of LUKS: a key becomes many stripes of random bytes, of which each is
 * needed to have the key again. A disk that keeps a few old sectors does not keep the key.
 */

/** Stripes of every keyslot: LUKS knows no other number. */
export const stripes = 4000

/** Returns the stripes of a key. `noise` holds the random bytes for all of them but the last. */
export function split(key: Buffer, noise: Buffer, hash: string): Buffer {
  const size = key.length
  const split = Buffer.alloc(size * stripes)
  noise.copy(split, 0, 0, size * (stripes - 1))
  const sum = sumOf(split, size, hash)
  xor(sum, key, 0)
  sum.copy(split, size * (stripes - 1))
  sum.fill(0)
  return split
}

/** Returns the key of `size` bytes whose stripes these are. */
export function merge(split: Buffer, size: number, hash: string): Buffer {
  const key = sumOf(split, size, hash)
  xor(key, split, size * (stripes - 1))
  return key
}

/** What all stripes but the last come to. */
function sumOf(split: Buffer, size: number, hash: string): Buffer {
  const sum = Buffer.alloc(size)
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    xor(sum, split, stripe * size)
    diffuse(sum, hash)
  }
  return sum
}

function xor(into: Buffer, other: Buffer, at: number): void {
  for (let byte = 0; byte < into.length; byte++) into[byte]! ^= other[at + byte]!
}

/** Replaces each piece, as long as a digest, by the digest of its number and itself. */
function diffuse(bytes: Buffer, hash: string): void {
  const number = Buffer.alloc(4)
  for (let at = 0, piece = 0; at < bytes.length; piece++) {
    number.writeUInt32BE(piece)
    const rest = bytes.subarray(at)
    const digest = createHash(hash)
    const size = digestBytes[hash as Hash]
    const length = Math.min(size, rest.length)
    digest.update(number).update(rest.subarray(0, length)).digest().copy(rest, 0, 0, length)
    at += length
  }
}

/** Bytes of the digests that headers may name. */
export const digestBytes = { sha1: 20, sha256: 32, sha384: 48, sha512: 64 } as const
export type Hash = keyof typeof digestBytes

/** True for a digest that we know. */
export function isHash(name: string): name is Hash {
  return Object.hasOwn(digestBytes, name)
}
