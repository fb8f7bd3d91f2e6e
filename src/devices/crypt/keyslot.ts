import { createCipheriv, createDecipheriv, pbkdf2Sync, timingSafeEqual } from 'node:crypto'
import { roundUp } from '../../base/size.ts'
import { digestBytes, merge, split, stripes } from './splitter.ts'
import type { Kdf, KeyDigest, Keyslot } from './header.ts'

/** The work of a worker: what takes seconds of a processor. */

const sector = 512

/** Returns the volume key that the passphrase opens a keyslot to; null for a wrong passphrase. */
export async function openKeyslot(
  passphrase: Buffer,
  keyslot: Keyslot,
  area: Buffer,
  digest: KeyDigest,
): Promise<Buffer | null> {
  const sealed = await derive(passphrase, keyslot.kdf, keyslot.areaKeyBytes)
  const plain = crypt('decrypt', sealed, area.subarray(0, stripesBytes(keyslot)))
  const key = merge(plain, keyslot.keyBytes, keyslot.hash)
  plain.fill(0)
  sealed.fill(0)
  if (timingSafeEqual(digestOf(key, digest), digest.value)) return key
  key.fill(0)
  return null
}

/** Returns the bytes of a keyslot's place. `noise` has `keyBytes * stripes` random bytes. */
export async function sealKeyslot(
  passphrase: Buffer,
  keyslot: Keyslot,
  key: Buffer,
  noise: Buffer,
): Promise<Buffer> {
  const sealing = await derive(passphrase, keyslot.kdf, keyslot.areaKeyBytes)
  const plain = Buffer.alloc(stripesBytes(keyslot))
  const pieces = split(key, noise, keyslot.hash)
  pieces.copy(plain)
  const area = crypt('encrypt', sealing, plain)
  for (const secret of [sealing, plain, pieces]) secret.fill(0)
  return area
}

/** The digest of a volume key. */
export function digestOf(key: Buffer, { salt, iterations, hash, value }: KeyDigest): Buffer {
  return pbkdf2Sync(key, salt, iterations, value.length, hash)
}

/** Bytes of the digest of a new device's key. */
export function digestLength(format: 'luks1' | 'luks2'): number {
  return format === 'luks1' ? digestBytes.sha1 : digestBytes.sha256
}

/** Bytes of the stripes, in whole sectors. */
export function stripesBytes({ keyBytes }: Keyslot): number {
  return roundUp(keyBytes * stripes, sector)
}

async function derive(passphrase: Buffer, kdf: Kdf, length: number): Promise<Buffer> {
  const { salt } = kdf
  if (kdf.kind === 'pbkdf2') return pbkdf2Sync(passphrase, salt, kdf.iterations, length, kdf.hash)
  // Only headers that ask for it pay for its code.
  const { argon2i, argon2id } = await import('hash-wasm')
  const argon2 = kdf.kind === 'argon2i' ? argon2i : argon2id
  const key = await argon2({
    password: passphrase,
    salt,
    iterations: kdf.passes,
    parallelism: kdf.lanes,
    memorySize: kdf.memory / 1024,
    hashLength: length,
    outputType: 'binary',
  })
  return Buffer.from(key.buffer, key.byteOffset, key.length)
}

/** Encrypts or decrypts the stripes: sectors of 512 bytes, counted from their first. */
function crypt(direction: 'encrypt' | 'decrypt', key: Buffer, bytes: Buffer): Buffer {
  const name = `aes-${key.length * 4}-xts`
  const make = direction === 'encrypt' ? createCipheriv : createDecipheriv
  const number = Buffer.alloc(16)
  const done = Buffer.alloc(bytes.length)
  for (let at = 0; at < bytes.length; at += sector) {
    number.writeUInt32LE(at / sector)
    make(name, key, number)
      .update(bytes.subarray(at, at + sector))
      .copy(done, at)
  }
  return done
}
