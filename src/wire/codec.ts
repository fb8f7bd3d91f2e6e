import zlib from 'node:zlib'

/**
 * The headers of DST/1 after the hello, as `docs/protocol.md` describes them. Pure: they read and
 * write bytes at an index and never throw. All numbers are little-endian.
 */

/** From the client: 32 bytes, then `payload` bytes. */
export const requestBytes = 32
/** From the server: 24 bytes, then `payload` bytes. */
export const replyBytes = 24

/** What a client sends. The first six are `Operation` plus one. */
export const Command = {
  read: 1,
  write: 2,
  flush: 3,
  trim: 4,
  writeZeroes: 5,
  status: 6,
  stamp: 16,
  claim: 17,
  claimed: 18,
  ping: 32,
  pong: 33,
} as const

/** What a server sends. */
export const Kind = {
  reply: 64,
  ping: 65,
  pong: 66,
  facts: 67,
  fenced: 68,
} as const

/** Why a header cannot be believed; the stream is lost then. Everything else can be skipped. */
export type HeaderFault = 'checksum' | 'reserved'

/** A header of what a client sends, to encode from or decode into, over and over. */
export function newRequestHeader() {
  return {
    command: 0,
    flags: 0,
    slot: 0,
    sequence: 0,
    /** Bytes; the fence number of a claim. NaN when it is beyond what a number can say exactly. */
    offset: 0,
    length: 0,
    /** Bytes that follow. */
    payload: 0,
    payloadChecksum: 0,
  }
}
export type RequestHeader = ReturnType<typeof newRequestHeader>

/** A header of what a server sends, to encode from or decode into; `payload` bytes follow it. */
export function newReplyHeader() {
  return { kind: 0, status: 0, slot: 0, sequence: 0, payload: 0, payloadChecksum: 0 }
}
export type ReplyHeader = ReturnType<typeof newReplyHeader>

const high = 0x1_0000_0000

/** Writes a safe integer, not negative, as 64 bits. */
export function writeUint64(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32LE(value % high, at)
  bytes.writeUInt32LE(Math.floor(value / high), at + 4)
}

/** Reads 64 bits; NaN for what is not a safe integer. */
export function readUint64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * high + bytes.readUInt32LE(at)
  return value <= Number.MAX_SAFE_INTEGER ? value : NaN
}

/** CRC-32 (IEEE) of `length` bytes at `at`, going on from `before`. */
export function checksum(bytes: Buffer, at: number, length: number, before = 0): number {
  return zlib.crc32(bytes.subarray(at, at + length), before)
}

/** CRC-32 (IEEE) of the segments, one after the other. */
export function checksumOf(segments: readonly Buffer[]): number {
  let value = 0
  for (const segment of segments) value = zlib.crc32(segment, value)
  return value
}

/**
 * Writes 32 bytes at `at`. `withChecksum`: the hello switched checksums on. It is a flag by
 * position here and in the next three: they run once per request, and make no object for it.
 */
export function encodeRequest(
  bytes: Buffer,
  at: number,
  header: RequestHeader,
  withChecksum: boolean,
): void {
  bytes[at] = header.command
  bytes[at + 1] = header.flags
  bytes.writeUInt16LE(header.slot, at + 2)
  bytes.writeUInt32LE(header.sequence, at + 4)
  writeUint64(bytes, at + 8, header.offset)
  bytes.writeUInt32LE(header.length, at + 16)
  bytes.writeUInt32LE(header.payload, at + 20)
  bytes.writeUInt32LE(header.payloadChecksum, at + 24)
  bytes.writeUInt32LE(withChecksum ? checksum(bytes, at, requestBytes - 4) : 0, at + 28)
}

/** Reads the 32 bytes at `at` into `header`. */
export function decodeRequest(
  bytes: Buffer,
  at: number,
  header: RequestHeader,
  withChecksum: boolean,
): HeaderFault | null {
  header.command = bytes[at]!
  header.flags = bytes[at + 1]!
  header.slot = bytes.readUInt16LE(at + 2)
  header.sequence = bytes.readUInt32LE(at + 4)
  header.offset = readUint64(bytes, at + 8)
  header.length = bytes.readUInt32LE(at + 16)
  header.payload = bytes.readUInt32LE(at + 20)
  header.payloadChecksum = bytes.readUInt32LE(at + 24)
  return faultOf(bytes, at, requestBytes, withChecksum)
}

/** Writes 24 bytes at `at`. */
export function encodeReply(
  bytes: Buffer,
  at: number,
  header: ReplyHeader,
  withChecksum: boolean,
): void {
  bytes[at] = header.kind
  bytes[at + 1] = header.status
  bytes.writeUInt16LE(header.slot, at + 2)
  bytes.writeUInt32LE(header.sequence, at + 4)
  bytes.writeUInt32LE(header.payload, at + 8)
  bytes.writeUInt32LE(0, at + 12)
  bytes.writeUInt32LE(header.payloadChecksum, at + 16)
  bytes.writeUInt32LE(withChecksum ? checksum(bytes, at, replyBytes - 4) : 0, at + 20)
}

/** Reads the 24 bytes at `at` into `header`. */
export function decodeReply(
  bytes: Buffer,
  at: number,
  header: ReplyHeader,
  withChecksum: boolean,
): HeaderFault | null {
  header.kind = bytes[at]!
  header.status = bytes[at + 1]!
  header.slot = bytes.readUInt16LE(at + 2)
  header.sequence = bytes.readUInt32LE(at + 4)
  header.payload = bytes.readUInt32LE(at + 8)
  header.payloadChecksum = bytes.readUInt32LE(at + 16)
  if (bytes.readUInt32LE(at + 12) !== 0) return 'reserved'
  return faultOf(bytes, at, replyBytes, withChecksum)
}

/**
 * Both headers end with the checksum of the payload and their own. They are zero when checksums are
 * switched off: a header that has others is out of step.
 */
function faultOf(
  bytes: Buffer,
  at: number,
  length: number,
  withChecksum: boolean,
): HeaderFault | null {
  const found = bytes.readUInt32LE(at + length - 4)
  if (withChecksum) return found === checksum(bytes, at, length - 4) ? null : 'checksum'
  const ofPayload = bytes.readUInt32LE(at + length - 8)
  return found === 0 && ofPayload === 0 ? null : 'reserved'
}
