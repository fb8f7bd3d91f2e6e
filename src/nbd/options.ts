import { stringBytesMax } from './codec.ts'

/**
 * NBD's handshake: greetings, options, their replies, and what they carry. Big-endian, pure, never
 * throws at what a peer sends: a payload that does not parse gives null. This is fixed newstyle;
 * older handshakes are recognised by a client so that they can be named.
 */

export const greetingMagic = 0x4e42444d41474943n // "NBDMAGIC"
export const optionMagic = 0x49484156454f5054n // "IHAVEOPT"
const oldstyleMagic = 0x00420281861253n
const optionReplyMagic = 0x0003e889045565a9n

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const

export const Reply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x8000_0001,
  errPolicy: 0x8000_0002,
  errInvalid: 0x8000_0003,
  errPlatform: 0x8000_0004,
  errTlsReqd: 0x8000_0005,
  errUnknown: 0x8000_0006,
  errShutdown: 0x8000_0007,
  errBlockSizeReqd: 0x8000_0008,
  errTooBig: 0x8000_0009,
} as const
export const replyErrorBit = 0x8000_0000

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const

export const TransmissionFlag = {
  hasFlags: 1,
  readOnly: 2,
  flush: 4,
  fua: 8,
  rotational: 16,
  trim: 32,
  writeZeroes: 64,
  df: 128,
  multiConn: 256,
  cache: 1024,
  fastZero: 2048,
} as const

export const allocationContext = 'base:allocation'

export const greetingBytes = 18
export const clientFlagsBytes = 4
export const optionHeaderBytes = 16
export const optionReplyHeaderBytes = 20
/** The answer to EXPORT_NAME, and the zeroes after it for a client that did not decline them. */
export const exportNameReplyBytes = 10
export const exportNameZeroBytes = 124

/** The server's first message: fixed newstyle, and no zeroes for clients that decline them. */
export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(greetingBytes)
  bytes.writeBigUInt64BE(greetingMagic, 0)
  bytes.writeBigUInt64BE(optionMagic, 8)
  bytes.writeUInt16BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 16)
  return bytes
}

/** The server's handshake flags, or a sentence that says what it is instead. */
export function decodeGreeting(bytes: Buffer, at: number): number | string {
  if (bytes.readBigUInt64BE(at) !== greetingMagic) return 'not an NBD server'
  const second = bytes.readBigUInt64BE(at + 8)
  if (second === oldstyleMagic) return 'an NBD server of the old style, which cannot be used'
  if (second !== optionMagic) return 'not an NBD server'
  const flags = bytes.readUInt16BE(at + 16)
  if ((flags & HandshakeFlag.fixedNewstyle) === 0) return 'an NBD server without fixed newstyle'
  return flags
}

/** The client's answer to the greeting; `flags` are bits of `HandshakeFlag`. */
export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(clientFlagsBytes)
  bytes.writeUInt32BE(flags)
  return bytes
}

/** An option of a client with its data. */
export function encodeOption(option: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(optionHeaderBytes + data.length)
  bytes.writeBigUInt64BE(optionMagic, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(data.length, 12)
  data.copy(bytes, optionHeaderBytes)
  return bytes
}

/** Reads the 16 bytes before an option's data, which are `length` bytes; null: wrong magic. */
export function decodeOption(bytes: Buffer, at: number): { option: number; length: number } | null {
  if (bytes.readBigUInt64BE(at) !== optionMagic) return null
  return { option: bytes.readUInt32BE(at + 8), length: bytes.readUInt32BE(at + 12) }
}

/** A reply to an option with its data; `type` is one of `Reply`. */
export function encodeOptionReply(option: number, type: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(optionReplyHeaderBytes + data.length)
  bytes.writeBigUInt64BE(optionReplyMagic, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(type, 12)
  bytes.writeUInt32BE(data.length, 16)
  data.copy(bytes, optionReplyHeaderBytes)
  return bytes
}

/** Reads the 20 bytes before the `length` bytes of a reply to an option; null: wrong magic. */
export function decodeOptionReply(bytes: Buffer, at: number) {
  if (bytes.readBigUInt64BE(at) !== optionReplyMagic) return null
  return {
    option: bytes.readUInt32BE(at + 8),
    type: bytes.readUInt32BE(at + 12),
    length: bytes.readUInt32BE(at + 16),
  }
}

/** The answer to EXPORT_NAME, with zeroes after it for a client that did not decline them. */
export function encodeExportNameReply(
  size: number,
  flags: number,
  tail: 'zeroes' | 'none',
): Buffer {
  const tailBytes = tail === 'zeroes' ? exportNameZeroBytes : 0
  const bytes = Buffer.alloc(exportNameReplyBytes + tailBytes)
  bytes.writeBigUInt64BE(BigInt(size), 0)
  bytes.writeUInt16BE(flags, 8)
  return bytes
}

/** Reads fields one after the other; `broken` once a field was not all there. */
class Reader {
  private readonly bytes: Buffer
  private at = 0
  private isBroken = false

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get left(): number {
    return this.bytes.length - this.at
  }

  broken(): boolean {
    return this.isBroken
  }

  uint(bytes: 2 | 4): number {
    if (this.left < bytes) {
      this.isBroken = true
      return 0
    }
    this.at += bytes
    return this.bytes.readUIntBE(this.at - bytes, bytes)
  }

  text(length: number): string {
    if (length > this.left || length > stringBytesMax) {
      this.isBroken = true
      return ''
    }
    this.at += length
    return this.bytes.toString('utf8', this.at - length, this.at)
  }
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

function uint(value: number, bytes: 2 | 4): Buffer {
  const buffer = Buffer.alloc(bytes)
  buffer.writeUIntBE(value, 0, bytes)
  return buffer
}

/** What INFO and GO carry. */
export interface InfoRequest {
  readonly name: string
  readonly infos: readonly number[]
}

/** The data of INFO or GO. */
export function encodeInfoRequest({ name, infos }: InfoRequest): Buffer {
  return Buffer.concat([text(name), uint(infos.length, 2), ...infos.map((info) => uint(info, 2))])
}

/** Reads the data of INFO or GO; null when they do not parse. */
export function decodeInfoRequest(data: Buffer): InfoRequest | null {
  const reader = new Reader(data)
  const name = reader.text(reader.uint(4))
  const count = reader.uint(2)
  if (reader.broken() || reader.left !== count * 2) return null
  return { name, infos: Array.from({ length: count }, () => reader.uint(2)) }
}

/** What LIST_META_CONTEXT and SET_META_CONTEXT carry. */
export interface MetaRequest {
  readonly name: string
  readonly queries: readonly string[]
}

/** The data of LIST_META_CONTEXT or SET_META_CONTEXT. */
export function encodeMetaRequest({ name, queries }: MetaRequest): Buffer {
  return Buffer.concat([text(name), uint(queries.length, 4), ...queries.map(text)])
}

/** Reads the data of LIST_META_CONTEXT or SET_META_CONTEXT; null when they do not parse. */
export function decodeMetaRequest(data: Buffer): MetaRequest | null {
  const reader = new Reader(data)
  const name = reader.text(reader.uint(4))
  const count = reader.uint(4)
  // Every query takes four bytes at least: a count that cannot be true costs nothing.
  if (reader.broken() || count * 4 > reader.left) return null
  const queries: string[] = []
  for (let at = 0; at < count && !reader.broken(); at++) queries.push(reader.text(reader.uint(4)))
  return reader.broken() || reader.left > 0 ? null : { name, queries }
}

/** The data of a reply that names a context. */
export function encodeMetaContext(id: number, name: string): Buffer {
  return Buffer.concat([uint(id, 4), Buffer.from(name)])
}

/** Reads the data of a reply that names a context; null when they do not parse. */
export function decodeMetaContext(data: Buffer): { id: number; name: string } | null {
  const reader = new Reader(data)
  const id = reader.uint(4)
  const name = reader.text(reader.left)
  return reader.broken() ? null : { id, name }
}

/** An export, as LIST tells it. */
export interface ExportListing {
  readonly name: string
  readonly description: string
}

/** The data of a reply to LIST, for one export. */
export function encodeServer({ name, description }: ExportListing): Buffer {
  return Buffer.concat([text(name), Buffer.from(description).subarray(0, stringBytesMax)])
}

/** Reads the data of a reply to LIST; null when they do not parse. */
export function decodeServer(data: Buffer): ExportListing | null {
  const reader = new Reader(data)
  const name = reader.text(reader.uint(4))
  const description = reader.text(reader.left)
  return reader.broken() ? null : { name, description }
}

/** In bytes: what requests must be multiples of, what they had better be, the longest payload. */
export interface BlockSizes {
  readonly minimum: number
  readonly preferred: number
  readonly maximum: number
}

export type InfoItem =
  | { readonly info: typeof Info.export; readonly size: bigint; readonly flags: number }
  | { readonly info: typeof Info.name | typeof Info.description; readonly text: string }
  | ({ readonly info: typeof Info.blockSize } & BlockSizes)

/** The data of one information that answers INFO or GO. */
export function encodeInfo(item: InfoItem): Buffer {
  const type = uint(item.info, 2)
  if (item.info === Info.export) {
    const size = Buffer.alloc(8)
    size.writeBigUInt64BE(item.size)
    return Buffer.concat([type, size, uint(item.flags, 2)])
  }
  if (item.info === Info.blockSize) {
    const { minimum, preferred, maximum } = item
    return Buffer.concat([type, uint(minimum, 4), uint(preferred, 4), uint(maximum, 4)])
  }
  return Buffer.concat([type, Buffer.from(item.text).subarray(0, stringBytesMax)])
}

/** Reads one information: 'unknown' if a client has to ignore it, null if it does not parse. */
export function decodeInfo(data: Buffer): InfoItem | 'unknown' | null {
  if (data.length < 2) return null
  const info = data.readUInt16BE(0)
  if (info === Info.export) {
    if (data.length !== 12) return null
    return { info, size: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) }
  }
  if (info === Info.blockSize) {
    if (data.length !== 14) return null
    const minimum = data.readUInt32BE(2)
    const preferred = data.readUInt32BE(6)
    return { info, minimum, preferred, maximum: data.readUInt32BE(10) }
  }
  if (info === Info.name || info === Info.description)
    return { info, text: data.toString('utf8', 2, 2 + stringBytesMax) }
  return 'unknown'
}
