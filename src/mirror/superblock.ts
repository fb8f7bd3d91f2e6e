import { crc32 } from 'node:zlib'
import { roundUp } from '../base/size.ts'
import { pageBytes, superblockBytes } from './layout.ts'
import { parseRecord, sameGeneration } from './record.ts'
import type { Generation, Member, VolumeRecord } from './record.ts'

/**
 * One of the two slots of a leg, little-endian, the rest zero to the end of a page:
 *
 *     0  magic "DSTLEG\r\n"
 *     8  format version, u32
 *     12 length of the body, u32
 *     16 serial, u64: of two whole slots the higher one counts
 *     24 crc32 of everything else: bytes 0 to 23 and the body
 *     28 zero
 *     32 body: JSON, see `Superblock`
 */
export interface Superblock {
  readonly serial: number
  /** The id of the member that the leg is. */
  readonly self: string
  readonly record: VolumeRecord
}

/** What a slot, or a leg's pair of slots, can be. */
export type Found =
  | {
      readonly kind: 'superblock'
      readonly superblock: Superblock
      /** The serial of the other slot: 0 when that has none, null when it is torn. */
      readonly previous: number | null
    }
  /** No superblock: never formatted, or the first one was not written to its end. */
  | { readonly kind: 'blank' }
  /** A superblock that is not whole. */
  | { readonly kind: 'damaged'; readonly reason: string }
  /** Written by another version of the format. */
  | { readonly kind: 'foreign'; readonly version: number }

export const headerBytes = 32
export const formatVersion = 1
/** The highest serial that is an exact number. */
export const serialMax = Number.MAX_SAFE_INTEGER
const magic = Buffer.from('DSTLEG\r\n', 'latin1')

/**
 * The highest serial that counts as a mark: more than any leg comes to. Above it, where only other
 * software writes, serials begin anew, and no mark may outlast them.
 */
const markMax = 2 ** 52

/** A serial that a leg's superblock had for certain. */
export interface Mark {
  readonly serial: number
  /** The generation of that superblock; null where it is unknown. */
  readonly generation: Generation | null
}

/** The mark, unless it cannot be true. */
export function markOf(serial: number | undefined, generation: Generation | null): Mark | null {
  return serial === undefined || serial > markMax ? null : { serial, generation }
}

/** The mark that the record has for the member with this id; null if none. */
export function markIn({ members, generation }: VolumeRecord, id: string): Mark | null {
  const member = members.find((one) => one.id === id)
  return member === undefined ? null : markOfMember(member, generation)
}

/** The mark of a member, where all that is known is of no later generation than `latest`. */
export function markOfMember(
  { mark, markedIn }: Pick<Member, 'mark' | 'markedIn'>,
  latest: Generation | null,
): Mark | null {
  if (markedIn === undefined || (markedIn.serial ?? mark) !== mark) return markOf(mark, latest)
  const { counter, id } = markedIn
  return markOf(mark, { counter, id })
}

/**
 * The lowest serial that a leg may show, see `showsMark`: the highest of its marks. A mark of an
 * earlier generation says nothing of a leg with a lower serial: the head that wrote the later
 * generation had taken the leg as it was, and went on from the serial that it found. A leg with a
 * higher serial may have been put back, and have got only that superblock since.
 */
export function highestMark(marks: readonly (Mark | null)[], shown: Superblock): number {
  let highest = 0
  for (const mark of marks)
    if (mark !== null && !isOutdone(mark, shown)) highest = Math.max(highest, mark.serial)
  return highest
}

function isOutdone({ serial, generation }: Mark, shown: Superblock): boolean {
  return serial > shown.serial && isBefore(generation, shown.record.generation)
}

function isBefore(generation: Generation | null, shown: Generation): boolean {
  if (generation === null || sameGeneration(generation, shown)) return false
  return generation.counter <= shown.counter
}

/** The later of two marks of one leg; without a generation the higher one. */
export function laterMark(one: Mark | null, other: Mark | null): Mark | null {
  if (one === null || other === null) return one ?? other
  const [first, second] = [one.generation, other.generation]
  if (first === null || second === null || first.counter === second.counter)
    return one.serial >= other.serial ? one : other
  return first.counter > second.counter ? one : other
}

/**
 * Encodes a superblock, if necessary without the parts that only people read. Null when the record
 * does not fit into a slot even so.
 */
export function encodeSuperblock({ serial, self, record }: Superblock): Buffer | null {
  let body = Buffer.from(JSON.stringify({ self, record }))
  if (!fits(body)) body = Buffer.from(JSON.stringify({ self, record: { ...record, entries: [] } }))
  if (!fits(body)) body = Buffer.from(JSON.stringify({ self, record: withoutReasons(record) }))
  if (!fits(body)) return null
  const bytes = Buffer.alloc(roundUp(headerBytes + body.length, pageBytes))
  magic.copy(bytes)
  bytes.writeUInt32LE(formatVersion, 8)
  bytes.writeUInt32LE(body.length, 12)
  bytes.writeBigUInt64LE(BigInt(serial), 16)
  body.copy(bytes, headerBytes)
  bytes.writeUInt32LE(checksum(bytes, body.length), 24)
  return bytes
}

function fits({ length }: Buffer): boolean {
  return headerBytes + length <= superblockBytes
}

/** The record without texts, which the head's own record has. */
function withoutReasons(record: VolumeRecord): VolumeRecord {
  const members = record.members.map((member) => ({ ...member, reason: '' }))
  return { ...record, entries: [], members }
}

/** Bytes of the slot that begins like this, 0 when it is none of ours. */
export function slotLength(start: Buffer): number {
  if (!start.subarray(0, 8).equals(magic)) return 0
  const length = headerBytes + start.readUInt32LE(12)
  return length > superblockBytes ? 0 : length
}

/** Decodes one slot; `bytes` holds at least what `slotLength` said. Never throws. */
export function decodeSlot(bytes: Buffer): Found {
  if (bytes.length < headerBytes || !bytes.subarray(0, 8).equals(magic)) return { kind: 'blank' }
  const version = bytes.readUInt32LE(8)
  const length = bytes.readUInt32LE(12)
  if (headerBytes + length > Math.min(bytes.length, superblockBytes))
    return { kind: 'damaged', reason: `a length of ${length} bytes` }
  if (bytes.readUInt32LE(24) !== checksum(bytes, length))
    return { kind: 'damaged', reason: 'a wrong checksum' }
  if (version !== formatVersion) return { kind: 'foreign', version }
  return decodeBody(bytes.subarray(headerBytes, headerBytes + length), readSerial(bytes))
}

/** What a leg has, by its two slots. */
export function choose(first: Found, second: Found): Found {
  if (first.kind === 'foreign') return first
  if (second.kind === 'foreign') return second
  if (first.kind === 'superblock' && second.kind === 'superblock') {
    const [one, other] = [first.superblock.serial, second.superblock.serial]
    return one > other ? { ...first, previous: other } : { ...second, previous: one }
  }
  if (first.kind === 'superblock') return { ...first, previous: second.kind === 'blank' ? 0 : null }
  if (second.kind === 'superblock')
    return { ...second, previous: first.kind === 'blank' ? 0 : null }
  // Slots are written in turn: a damaged one beside a blank one was the very first.
  if (first.kind === 'blank' || second.kind === 'blank') return { kind: 'blank' }
  return { kind: 'damaged', reason: `both superblocks are bad: ${first.reason}, ${second.reason}` }
}

/**
 * Whether a leg shows all that it had when its superblock with the serial `mark` was stable. Slots
 * are written in turn, so until two more are written one of them has it. A leg that was put back
 * may since have got a newer superblock, which was under way and was sent again: then the other
 * slot is too old.
 */
export function showsMark(found: Found, mark: number): boolean {
  if (found.kind !== 'superblock') return false
  const { superblock, previous } = found
  const { serial } = superblock
  // A torn slot was being written when power was lost.
  return serial === mark || (serial > mark && (previous === null || previous >= mark))
}

/**
 * Completes what was found on a leg that grew, if its head died when only the first superblock was
 * at the new end: the one before it is at one of the `others`.
 */
export function withFormer(found: Found, others: readonly Found[]): Found {
  if (found.kind !== 'superblock' || found.previous !== 0) return found
  const { self, serial } = found.superblock
  const before = others.map((other) =>
    other.kind === 'superblock' && other.superblock.self === self ? other.superblock.serial : 0,
  )
  return { ...found, previous: Math.max(0, ...before.filter((one) => one < serial)) }
}

/** Whether `one` is the volume's, and `other` is not or is older. */
export function isNewer(one: Found, other: Found, volume: string): boolean {
  if (one.kind !== 'superblock' || one.superblock.record.volume !== volume) return false
  if (other.kind !== 'superblock' || other.superblock.record.volume !== volume) return true
  const [mine, theirs] = [one.superblock, other.superblock]
  const further = mine.record.generation.counter - theirs.record.generation.counter
  return further > 0 || (further === 0 && mine.serial > theirs.serial)
}

function readSerial(bytes: Buffer): number {
  return Number(bytes.readBigUInt64LE(16) & 0x1f_ffff_ffff_ffffn)
}

function checksum(bytes: Buffer, length: number): number {
  const body = bytes.subarray(headerBytes, headerBytes + length)
  return crc32(body, crc32(bytes.subarray(0, 24)))
}

function decodeBody(body: Buffer, serial: number): Found {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString())
  } catch {
    return { kind: 'damaged', reason: 'a body that is not JSON' }
  }
  const { self, record } = (parsed ?? {}) as { self?: unknown; record?: unknown }
  const known = parseRecord(record)
  if (known === null || typeof self !== 'string' || !known.members.some(({ id }) => id === self))
    return { kind: 'damaged', reason: 'a body that makes no sense' }
  return { kind: 'superblock', superblock: { serial, self, record: known }, previous: 0 }
}
