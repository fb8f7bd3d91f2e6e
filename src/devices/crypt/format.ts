import { StorageError } from '../../base/errors.ts'
import { describeSize, KiB, MiB } from '../../base/size.ts'
import { cipher, type KeyDigest, type Keyslot } from './header.ts'
import { keyslotJson, newKeyslot, sealed, writeArea, type Maker, type NewKdf } from './keyslots.ts'
import { encodeLuks1, luks1Bytes, withSlot } from './luks1.ts'
import { copyBytesMax, copyBytesMin, encodeCopy, fieldsBytes, type Fields } from './luks2.ts'
import type { Json } from './luks2-json.ts'
import { digestLength } from './keyslot.ts'
import type { Medium } from './medium.ts'

/** Describes a device that is to be encrypted. */
export interface NewDevice {
  readonly format: 'luks1' | 'luks2'
  readonly sectorBytes: 512 | 4096
  readonly kdf: NewKdf
  readonly passphrase: Buffer
}

/** Bytes of AES-256-XTS's two keys. */
const keyBytes = 64
/** Where the data begin: as others have it, so that their tools have room for their keyslots. */
const payload2 = 16 * MiB
const payload1 = 2 * MiB
/** Iterations of the digest that tells the volume key: it is random, nobody can guess it. */
const digestIterations = 1000
const saltBytes = 32

/** Bytes at both ends that are looked at before a device counts as blank. */
const headBytes = 4 * MiB
const tailBytes = 1 * MiB
/** Bytes that are read or dropped at a time. */
const stepBytes = 256 * KiB

/** Rejects with CONFIG unless the beginning and the end of the device are all zeroes. */
export async function mustBeBlank(medium: Medium): Promise<void> {
  const { size } = medium
  const head = Math.min(headBytes, size)
  const tail = Math.min(tailBytes, size - head)
  const zeroes = Buffer.alloc(stepBytes)
  for (const [from, length] of [
    [0, head],
    [size - tail, tail],
  ] as const) {
    for (let at = 0; at < length; at += stepBytes) {
      const bytes = await medium.read(from + at, Math.min(stepBytes, length - at))
      if (bytes.equals(zeroes.subarray(0, bytes.length))) continue
      throw new StorageError('CONFIG', `there are data at byte ${from + at}: --force drops them`)
    }
  }
}

/**
 * Makes a device an encrypted one, with one keyslot. What was on it is lost. Until the last write
 * there is no header that anybody would take for one.
 */
export async function formatDevice(maker: Maker, device: NewDevice): Promise<{ uuid: string }> {
  const { medium, deriver, random } = maker
  const { format, sectorBytes, kdf, passphrase } = device
  const payload = format === 'luks1' ? payload1 : payload2
  if (medium.size < payload + Math.max(sectorBytes, medium.blockSize))
    throw new StorageError('NO_SPACE', `a device needs more than ${describeSize(payload)} for this`)
  const key = randomKey(maker)
  try {
    const uuid = uuidFrom(random.bytes(16))
    const digest = {
      hash: 'sha256',
      iterations: digestIterations,
      salt: random.bytes(saltBytes),
    } as const
    const empty = { ...digest, value: Buffer.alloc(digestLength(format)) }
    const value = await deriver.digest(key, empty)
    const offset = format === 'luks1' ? fieldsBytes : 2 * copyBytesMin
    const slot = newKeyslot({ id: 0, offset, keyBytes }, kdf, random)
    const area = await sealed(maker, slot, { passphrase, key })
    await dropHeaders(medium, payload)
    await writeArea(medium, slot, area)
    const known = { uuid, slot, digest: { ...digest, value } }
    if (format === 'luks1') await writeLuks1(medium, known)
    else await writeLuks2(maker, known, device)
    return { uuid }
  } finally {
    key.fill(0)
  }
}

/** A key of XTS: its halves differ. */
function randomKey({ random }: Maker): Buffer {
  for (;;) {
    const key = random.bytes(keyBytes)
    if (!key.subarray(0, keyBytes / 2).equals(key.subarray(keyBytes / 2))) return key
  }
}

/** A random UUID of version 4. */
function uuidFrom(bytes: Buffer): string {
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Overwrites every place where a header may be, and the keyslots of an older one. */
async function dropHeaders(medium: Medium, payload: number): Promise<void> {
  const zeroes = Buffer.alloc(stepBytes)
  const end = Math.min(medium.size, Math.max(payload, 2 * copyBytesMax))
  for (let at = 0; at < end; at += stepBytes)
    await medium.write(at, zeroes.subarray(0, Math.min(stepBytes, end - at)))
  await medium.flush()
}

interface Known {
  readonly uuid: string
  readonly slot: Keyslot
  readonly digest: KeyDigest
}

async function writeLuks1(medium: Medium, { uuid, slot, digest }: Known): Promise<void> {
  const bytes = encodeLuks1({ uuid, keyBytes, digest })
  const block = Buffer.alloc(fieldsBytes)
  withSlot(bytes, 0, slot).copy(block, 0, 0, luks1Bytes)
  await medium.write(0, block)
  await medium.flush()
}

async function writeLuks2(
  { medium, random }: Maker,
  { uuid, slot, digest }: Known,
  { sectorBytes }: NewDevice,
): Promise<void> {
  const json = jsonOf(slot, digest, sectorBytes)
  const fields: Fields = {
    ...{ copyBytes: copyBytesMin, serial: 1, uuid },
    ...{ label: Buffer.alloc(0), subsystem: Buffer.alloc(0) },
    salt: random.bytes(64),
  }
  // The second first: the first says that the device is an encrypted one.
  for (const place of [1, 0] as const) {
    const salt = place === 0 ? fields.salt : random.bytes(64)
    const bytes = encodeCopy({ ...fields, salt }, json, place)!
    await medium.write(place * copyBytesMin, bytes)
    await medium.flush()
  }
}

function jsonOf(slot: Keyslot, digest: KeyDigest, sectorBytes: number): Json {
  return {
    keyslots: { 0: keyslotJson(slot) },
    tokens: {},
    segments: {
      0: {
        type: 'crypt',
        offset: String(payload2),
        size: 'dynamic',
        iv_tweak: '0',
        encryption: cipher,
        sector_size: sectorBytes,
      },
    },
    digests: {
      0: {
        type: 'pbkdf2',
        keyslots: ['0'],
        segments: ['0'],
        hash: digest.hash,
        iterations: digest.iterations,
        salt: digest.salt.toString('base64'),
        digest: digest.value.toString('base64'),
      },
    },
    config: {
      json_size: String(copyBytesMin - fieldsBytes),
      keyslots_size: String(payload2 - 2 * copyBytesMin),
    },
  }
}
