import type { Extents } from '../device/extents.ts'
import { extentHole, extentZero } from '../device/extents.ts'

/**
 * NBD's transmission phase: what requests and replies look like. Everything is big-endian. Nothing
 * here throws at what a peer sends, allocates per message (hence the long lists of parameters), or
 * does I/O. The format is that of `doc/proto.md` of the NetworkBlockDevice project; `options.ts`
 * has the handshake before it.
 */

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const

export const CommandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const

export const ChunkType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const

/** The bit of a chunk's type that makes it an error, whatever the rest says. */
export const chunkErrorBit = 0x8000
/** The flag of the last chunk of a reply. */
export const chunkDone = 1

/** The protocol's error numbers: those of Linux, on every system. */
export const Errno = {
  none: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const

export const requestBytes = 28
export const simpleReplyBytes = 16
export const chunkHeaderBytes = 20
/** Before the data of an `offsetData` chunk: its header and the offset. */
export const dataChunkBytes = chunkHeaderBytes + 8
/** The most bytes of any string, an error's message included. */
export const stringBytesMax = 4096

const requestMagic = 0x25609513
const simpleReplyMagic = 0x67446698
const chunkMagic = 0x668e33ef

const two32 = 0x1_0000_0000

/** Why the stream cannot be trusted any more. */
export type Violation = 'magic'

/** Reads a 64-bit number; inexact beyond 2^53, which is beyond every device. */
export function readUInt64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * two32 + bytes.readUInt32BE(at + 4)
}

/** Writes a number below 2^53 as 64 bits. */
export function writeUInt64(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32BE(Math.floor(value / two32), at)
  bytes.writeUInt32BE(value >>> 0, at + 4)
}

/**
 * A request's header, decoded in place.
 *
 *      0     4       6      8              16             24       28
 *      magic | flags | type | cookie       | offset       | length |
 */
export class RequestHeader {
  flags = 0
  type = 0
  /** The cookie's halves, signed, so that they stay small integers. */
  cookieHigh = 0
  cookieLow = 0
  offset = 0
  length = 0
  /** The offset's halves, to name an offset that no number holds exactly. */
  private offsetHigh = 0
  private offsetLow = 0

  /** The offset as it was sent. */
  get exactOffset(): bigint {
    return (BigInt(this.offsetHigh) << 32n) | BigInt(this.offsetLow)
  }

  /** Reads the 28 bytes at `at`. */
  decode(bytes: Buffer, at: number): Violation | null {
    if (bytes.readUInt32BE(at) !== requestMagic) return 'magic'
    this.flags = bytes.readUInt16BE(at + 4)
    this.type = bytes.readUInt16BE(at + 6)
    this.cookieHigh = bytes.readInt32BE(at + 8)
    this.cookieLow = bytes.readInt32BE(at + 12)
    this.offsetHigh = bytes.readUInt32BE(at + 16)
    this.offsetLow = bytes.readUInt32BE(at + 20)
    this.offset = this.offsetHigh * two32 + this.offsetLow
    this.length = bytes.readUInt32BE(at + 24)
    return null
  }

  /** Writes 28 bytes at `at`. */
  encode(bytes: Buffer, at: number): void {
    bytes.writeUInt32BE(requestMagic, at)
    bytes.writeUInt16BE(this.flags, at + 4)
    bytes.writeUInt16BE(this.type, at + 6)
    bytes.writeInt32BE(this.cookieHigh, at + 8)
    bytes.writeInt32BE(this.cookieLow, at + 12)
    writeUInt64(bytes, at + 16, this.offset)
    bytes.writeUInt32BE(this.length, at + 24)
  }
}

/**
 * A reply's header of either kind, decoded in place.
 *
 *      0     4       8              16
 *      magic | error | cookie       |              simple: a read's data follow if error is 0
 *      magic | flags | type | cookie      | length |   a chunk: length bytes follow
 *      0     4       6      8             16       20
 */
export class ReplyHeader {
  structured = false
  /** The error number of a simple reply; 0: none. */
  error = 0
  /** The flags of a chunk; so are `type` and `length` of chunks. */
  flags = 0
  type = 0
  length = 0
  cookieHigh = 0
  cookieLow = 0

  /** `available` is at least `simpleReplyBytes`. 'short' when a chunk's header is not all there. */
  decode(bytes: Buffer, at: number, available: number): Violation | 'short' | null {
    const magic = bytes.readUInt32BE(at)
    this.cookieHigh = bytes.readInt32BE(at + 8)
    this.cookieLow = bytes.readInt32BE(at + 12)
    this.structured = magic === chunkMagic
    if (magic === simpleReplyMagic) {
      this.error = bytes.readUInt32BE(at + 4)
      return null
    }
    if (!this.structured) return 'magic'
    if (available < chunkHeaderBytes) return 'short'
    this.flags = bytes.readUInt16BE(at + 4)
    this.type = bytes.readUInt16BE(at + 6)
    this.length = bytes.readUInt32BE(at + 16)
    return null
  }
}

/** Writes the 16 bytes of a simple reply. */
export function encodeSimpleReply(
  bytes: Buffer,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  bytes.writeUInt32BE(simpleReplyMagic, at)
  bytes.writeUInt32BE(error, at + 4)
  bytes.writeInt32BE(cookieHigh, at + 8)
  bytes.writeInt32BE(cookieLow, at + 12)
}

/** Writes the 20 bytes of the header of a chunk that `length` bytes follow. */
export function encodeChunk(
  bytes: Buffer,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  length: number,
): void {
  bytes.writeUInt32BE(chunkMagic, at)
  bytes.writeUInt16BE(flags, at + 4)
  bytes.writeUInt16BE(type, at + 6)
  bytes.writeInt32BE(cookieHigh, at + 8)
  bytes.writeInt32BE(cookieLow, at + 12)
  bytes.writeUInt32BE(length, at + 16)
}

/** Bytes of the payload of an error chunk with a message of `messageBytes`. */
export function errorPayloadBytes(messageBytes: number): number {
  return 6 + messageBytes
}

/** Writes what follows the header of an error chunk; the caller writes the message at `at + 6`. */
export function encodeErrorPayload(
  bytes: Buffer,
  at: number,
  error: number,
  messageBytes: number,
): void {
  bytes.writeUInt32BE(error, at)
  bytes.writeUInt16BE(messageBytes, at + 4)
}

/** Reads an error chunk of any type; null when the message does not fit into the chunk. */
export function decodeErrorPayload(
  bytes: Buffer,
  at: number,
  length: number,
): { error: number; message: string } | null {
  if (length < 6) return null
  const messageBytes = bytes.readUInt16BE(at + 4)
  if (messageBytes > length - 6 || messageBytes > stringBytesMax) return null
  return {
    error: bytes.readUInt32BE(at),
    message: bytes.toString('utf8', at + 6, at + 6 + messageBytes),
  }
}

const stateHole = 1
const stateZero = 2

/** Bytes of the payload of a block status chunk. */
export function blockStatusPayloadBytes(runs: number): number {
  return 4 + 8 * runs
}

/** Writes the payload of a block status chunk: the context, then the first `runs` runs. */
export function encodeBlockStatus(
  bytes: Buffer,
  at: number,
  context: number,
  extents: Extents,
  runs: number,
): void {
  bytes.writeUInt32BE(context, at)
  for (let run = 0; run < runs; run++) {
    const flags = extents.flags[run]!
    const state =
      ((flags & extentHole) !== 0 ? stateHole : 0) | ((flags & extentZero) !== 0 ? stateZero : 0)
    bytes.writeUInt32BE(extents.lengths[run]!, at + 4 + 8 * run)
    bytes.writeUInt32BE(state, at + 8 + 8 * run)
  }
}

/** Our flags of an extent for what a server says of it; bits we do not know are ignored. */
export function extentFlagsOf(state: number): number {
  return ((state & stateHole) !== 0 ? extentHole : 0) | ((state & stateZero) !== 0 ? extentZero : 0)
}
