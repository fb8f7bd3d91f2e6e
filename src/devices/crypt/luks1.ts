import { roundUp } from '../../base/size.ts'
import {
  checkKdf,
  fieldOf,
  HeaderFault,
  iterationsMax,
  must,
  mustSupport,
  parsed,
  textOf,
  uuidPattern,
  type Fault,
  type Header,
  type Kdf,
  type KeyDigest,
  type Keyslot,
} from './header.ts'
import { isHash, stripes, type Hash } from './splitter.ts'

/**
 * LUKS version 1 on disk: 592 bytes, big-endian, once. Offsets count sectors of 512 bytes.
 *
 *     0 magic   6 version   8 cipher   40 mode   72 hash   104 payload   108 bytes of the key
 *     112 digest of the key   132 its salt   164 its iterations   168 uuid   208 eight keyslots
 *
 * A keyslot has 48 bytes: state, iterations, salt of 32 bytes, offset of its stripes, stripes.
 */

export const luksMagic = Buffer.from('LUKS\xba\xbe', 'latin1')

export const luks1Bytes = 592
/** Keyslots of every header. */
export const luks1Slots = 8

const sector = 512
const digestBytes = 20
const saltBytes = 32
const slotsAt = 208
const slotBytes = 48
const enabled = 0x00ac71f3
const disabled = 0x0000dead

/** The alignment of stripes and data, bytes: what disks of today write as one. */
const alignment = 4096
/** The byte where the data of a new device begin; a header has the stripes of eight keys in it. */
const payloadDefault = 2 * 1024 * 1024

/** Reads a header. It is the same text that any file may have, hence every value is checked. */
export function parseLuks1(bytes: Buffer): Header | Fault {
  return parsed(() => parse(bytes))
}

function parse(bytes: Buffer): Header {
  if (bytes.length < luks1Bytes || !bytes.subarray(0, 6).equals(luksMagic))
    throw new HeaderFault('absent', 'there is no LUKS header')
  mustSupport(bytes.readUInt16BE(6) === 1, `LUKS version ${bytes.readUInt16BE(6)} is not known`)
  const name = textOf(bytes.subarray(8, 40), 'name of the cipher')
  const mode = textOf(bytes.subarray(40, 72), 'mode of the cipher')
  mustSupport(name === 'aes' && mode === 'xts-plain64', `the cipher ${name}-${mode} is not known`)
  const hash = textOf(bytes.subarray(72, 104), 'name of the hash').toLowerCase()
  mustSupport(isHash(hash), `the hash ${hash} is not known`)
  const keyBytes = bytes.readUInt32BE(108)
  mustSupport(keyBytes === 32 || keyBytes === 64, `a key of ${keyBytes} bytes is not for this`)
  const payload = bytes.readUInt32BE(104) * sector
  must(payload >= alignment, 'the data begin within the header')
  const uuid = textOf(bytes.subarray(168, 208), 'uuid')
  must(uuidPattern.test(uuid), 'the uuid makes no sense')
  const iterations = bytes.readUInt32BE(164)
  must(iterations > 0, 'the digest of the key has no iterations')
  mustSupport(iterations <= iterationsMax, `${iterations} iterations take too long`)
  const digest = {
    hash,
    iterations,
    salt: Buffer.from(bytes.subarray(132, 164)),
    value: Buffer.from(bytes.subarray(112, 132)),
  }
  const keyslots = slotsOf(bytes, { hash, keyBytes, payload })
  const known = { sectorBytes: 512, firstSector: 0, size: null } as const
  return { format: 'luks1', uuid, keyBytes, payload, ...known, digest, keyslots }
}

interface Common {
  readonly hash: Hash
  readonly keyBytes: number
  readonly payload: number
}

/** The keyslots that can be tried. One whose values make no sense takes none of the others away. */
function slotsOf(bytes: Buffer, common: Common): Keyslot[] {
  const slots: Keyslot[] = []
  for (let id = 0; id < luks1Slots; id++) {
    const slot = parsed(() => slotOf(bytes, id, common))
    if (slot !== null && 'kdf' in slot) slots.push(slot)
  }
  return slots
}

/** Returns a keyslot; null for one that is not in use. */
function slotOf(bytes: Buffer, id: number, { hash, keyBytes, payload }: Common): Keyslot | null {
  const at = slotsAt + id * slotBytes
  const state = bytes.readUInt32BE(at)
  if (state === disabled) return null
  must(state === enabled, 'its state is no state')
  const iterations = bytes.readUInt32BE(at + 4)
  const salt = Buffer.from(bytes.subarray(at + 8, at + 8 + saltBytes))
  const kdf: Kdf = { kind: 'pbkdf2', hash, iterations, salt }
  checkKdf(kdf)
  const offset = bytes.readUInt32BE(at + 40) * sector
  must(bytes.readUInt32BE(at + 44) === stripes, 'it has another number of stripes')
  const reserved = roundUp(keyBytes * stripes, sector)
  must(offset >= roundUp(luks1Bytes, sector) && offset + reserved <= payload, 'it is elsewhere')
  return { id, kdf, hash, keyBytes, offset, reserved, areaKeyBytes: keyBytes, priority: 1 }
}

/** Why each keyslot that is in use cannot be tried; empty for a header that is whole. */
export function luks1Problems(bytes: Buffer, header: Header): readonly string[] {
  const common = { ...header, hash: header.digest.hash }
  const problems: string[] = []
  for (let id = 0; id < luks1Slots; id++) {
    const slot = parsed(() => slotOf(bytes, id, common))
    if (slot !== null && 'reason' in slot) problems.push(`keyslot ${id}: ${slot.reason}`)
  }
  return problems
}

/** Describes a new device. */
export interface NewLuks1 {
  readonly uuid: string
  readonly keyBytes: number
  readonly digest: KeyDigest
}

/** Returns the bytes of a header without a key in any keyslot. */
export function encodeLuks1({ uuid, keyBytes, digest }: NewLuks1): Buffer {
  const bytes = Buffer.alloc(luks1Bytes)
  luksMagic.copy(bytes)
  bytes.writeUInt16BE(1, 6)
  fieldOf('aes', 32).copy(bytes, 8)
  fieldOf('xts-plain64', 32).copy(bytes, 40)
  fieldOf(digest.hash, 32).copy(bytes, 72)
  bytes.writeUInt32BE(payloadDefault / sector, 104)
  bytes.writeUInt32BE(keyBytes, 108)
  digest.value.copy(bytes, 112, 0, digestBytes)
  digest.salt.copy(bytes, 132, 0, saltBytes)
  bytes.writeUInt32BE(digest.iterations, 164)
  fieldOf(uuid, 40).copy(bytes, 168)
  const reserved = roundUp(keyBytes * stripes, alignment)
  for (let id = 0; id < luks1Slots; id++) {
    const at = slotsAt + id * slotBytes
    bytes.writeUInt32BE(disabled, at)
    bytes.writeUInt32BE((alignment + id * reserved) / sector, at + 40)
    bytes.writeUInt32BE(stripes, at + 44)
  }
  return bytes
}

/** Returns a header with a key in a keyslot, or with none there. */
export function withSlot(bytes: Buffer, id: number, slot: Keyslot | null): Buffer {
  const changed = Buffer.from(bytes)
  const at = slotsAt + id * slotBytes
  changed.writeUInt32BE(slot === null ? disabled : enabled, at)
  changed.fill(0, at + 4, at + 8 + saltBytes)
  if (slot === null || slot.kdf.kind !== 'pbkdf2') return changed
  changed.writeUInt32BE(slot.kdf.iterations, at + 4)
  slot.kdf.salt.copy(changed, at + 8, 0, saltBytes)
  return changed
}

/** What a header says of a keyslot, whether it can be tried or not. */
export interface Luks1Slot {
  /** Damaged where neither is said: nobody knows whether there is a key. */
  readonly state: 'free' | 'in use' | 'damaged'
  /** The bytes of its stripes: `from` inclusive, `to` exclusive. */
  readonly from: number
  readonly to: number
}

/** Returns what the header says of its eight keyslots. A free one may be used if it fits ours. */
export function luks1SlotsIn(bytes: Buffer, keyBytes: number): readonly Luks1Slot[] {
  return Array.from({ length: luks1Slots }, (_, id) => {
    const at = slotsAt + id * slotBytes
    const word = bytes.readUInt32BE(at)
    const count = bytes.readUInt32BE(at + 44)
    const isOurs = count === stripes
    const state = word === enabled ? 'in use' : word === disabled && isOurs ? 'free' : 'damaged'
    const from = bytes.readUInt32BE(at + 40) * sector
    return { state, from, to: from + roundUp(keyBytes * count, sector) }
  })
}
