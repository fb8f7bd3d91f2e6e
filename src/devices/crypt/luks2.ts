import { createHash } from 'node:crypto'
import { isObject } from '../../base/guards.ts'
import { KiB, MiB } from '../../base/size.ts'
import { luksMagic } from './luks1.ts'
import { fieldOf, HeaderFault, must, parsed, textOf, type Fault } from './header.ts'
import { parseMetadata, type Json } from './luks2-json.ts'
import type { Header } from './header.ts'

/**
 * The two copies of a LUKS2 header: each has 4096 bytes of fields, big-endian, and JSON behind them
 * up to the size of the copy. The second copy begins where the first ends.
 *
 *     0 magic   6 version   8 size   16 serial   24 label   72 name of the checksum   104 salt
 *     168 uuid   208 subsystem   256 its own offset   448 checksum, 64 bytes
 *
 * The checksum covers the copy as if its own 64 bytes were zero.
 */

/** Bytes of the fields before the JSON. */
export const fieldsBytes = 4 * KiB
/** Bytes of the smallest copy, which is what new devices have, and of the largest that we read. */
export const copyBytesMin = 16 * KiB
export const copyBytesMax = 1 * MiB
const secondMagic = Buffer.from('SKUL\xba\xbe', 'latin1')
const checksumAt = 448
const checksumBytes = 64
/** The format allows any checksum; everybody writes this one. */
const checksumName = 'sha256'

/** One of the two copies: 0 begins at the first byte, 1 where that ends. */
export type Place = 0 | 1

/** The fields of a copy. */
export interface Fields {
  /** Bytes of each copy, with its JSON. */
  readonly copyBytes: number
  /** Raised with each change of the header: the copy with the higher one counts. */
  readonly serial: number
  /** As it is on the device: any text, in any encoding. */
  readonly label: Buffer
  readonly salt: Buffer
  readonly uuid: string
  /** As the label. */
  readonly subsystem: Buffer
}

/** A copy that is whole. */
export interface Copy {
  readonly fields: Fields
  readonly json: Json
  readonly header: Header
}

/** Reads the size of a copy from its fields, before the rest of it is read. */
export function parseSize(bytes: Buffer, place: Place): number | Fault {
  return parsed(() => sizeOf(bytes, place))
}

function sizeOf(bytes: Buffer, place: Place): number {
  const magic = place === 0 ? luksMagic : secondMagic
  if (bytes.length < fieldsBytes || !bytes.subarray(0, 6).equals(magic))
    throw new HeaderFault('absent', 'there is no LUKS header')
  must(bytes.readUInt16BE(6) === 2, `LUKS version ${bytes.readUInt16BE(6)} is not known`)
  const size = Number(bytes.readBigUInt64BE(8))
  must(size >= copyBytesMin && Number.isInteger(Math.log2(size)), 'its size makes no sense')
  must(size <= copyBytesMax, `a header of ${size} bytes is larger than ${copyBytesMax}`)
  must(Number(bytes.readBigUInt64BE(256)) === (place === 0 ? 0 : size), 'it lies elsewhere')
  return size
}

/**
 * Reads a whole copy: `bytes` has as many as `parseSize` says. `unsupported` is a copy that was
 * written like this: the other one, which may be older, does not stand in for it.
 */
export function parseCopy(bytes: Buffer, place: Place): Copy | Fault {
  const copyBytes = parsed(() => {
    const size = sizeOf(bytes, place)
    must(bytes.length === size, 'it is not all there')
    const name = textOf(bytes.subarray(72, 104), 'name of the checksum')
    must(name === checksumName, `the checksum ${name} is not known`)
    const stored = bytes.subarray(checksumAt, checksumAt + checksumUsed)
    must(checksumOf(bytes).equals(stored), 'its checksum is wrong')
    return size
  })
  if (typeof copyBytes !== 'number') return copyBytes
  const copy = parsed(() => contentOf(bytes, copyBytes))
  return 'reason' in copy ? { kind: 'unsupported', reason: copy.reason } : copy
}

function contentOf(bytes: Buffer, copyBytes: number): Copy {
  const serial = Number(bytes.readBigUInt64BE(16))
  must(Number.isSafeInteger(serial + 1), 'its serial makes no sense')
  const fields = {
    ...{ copyBytes, serial },
    label: Buffer.from(bytes.subarray(24, 72)),
    salt: Buffer.from(bytes.subarray(104, 168)),
    uuid: textOf(bytes.subarray(168, 208), 'uuid'),
    subsystem: Buffer.from(bytes.subarray(208, 256)),
  }
  const json = jsonOf(bytes.subarray(fieldsBytes))
  return { fields, json, header: parseMetadata(json, fields) }
}

/** Bytes of the checksum that are in use. */
const checksumUsed = 32

function checksumOf(bytes: Buffer): Buffer {
  const zeroes = Buffer.alloc(checksumBytes)
  return createHash(checksumName)
    .update(bytes.subarray(0, checksumAt))
    .update(zeroes)
    .update(bytes.subarray(checksumAt + checksumBytes))
    .digest()
}

function jsonOf(area: Buffer): Json {
  const end = area.indexOf(0)
  must(end > 0, 'its JSON does not end')
  let value: unknown
  try {
    value = JSON.parse(area.toString('utf8', 0, end))
  } catch {
    throw new HeaderFault('damaged', 'its JSON is none')
  }
  must(isObject(value), 'its JSON is no object')
  return value
}

/** Returns the bytes of a copy; null when the JSON has no room in it. */
export function encodeCopy(fields: Fields, json: Json, place: Place): Buffer | null {
  const text = Buffer.from(JSON.stringify(json))
  // A zero ends it.
  if (fieldsBytes + text.length >= fields.copyBytes) return null
  const bytes = Buffer.alloc(fields.copyBytes)
  const magic = place === 0 ? luksMagic : secondMagic
  magic.copy(bytes)
  bytes.writeUInt16BE(2, 6)
  bytes.writeBigUInt64BE(BigInt(fields.copyBytes), 8)
  bytes.writeBigUInt64BE(BigInt(fields.serial), 16)
  fields.label.copy(bytes, 24)
  fieldOf(checksumName, 32).copy(bytes, 72)
  fields.salt.copy(bytes, 104)
  fieldOf(fields.uuid, 40).copy(bytes, 168)
  fields.subsystem.copy(bytes, 208)
  bytes.writeBigUInt64BE(BigInt(place === 0 ? 0 : fields.copyBytes), 256)
  text.copy(bytes, fieldsBytes)
  checksumOf(bytes).copy(bytes, checksumAt)
  return bytes
}
