import net from 'node:net'
import { once } from 'node:events'
import type { Address } from '../../src/net/address.ts'
import * as codec from '../../src/nbd/codec.ts'
import * as options from '../../src/nbd/options.ts'
import { Info, Option, Reply } from '../../src/nbd/options.ts'
import { Talker } from './talker.ts'

const none = Buffer.alloc(0)

/** An NBD server that does what a test says, rightly or not. */
export class FakeServer {
  readonly address: Address
  private readonly server: net.Server
  private readonly sockets = new Set<net.Socket>()

  private constructor(server: net.Server) {
    this.server = server
    const { port } = server.address() as net.AddressInfo
    this.address = { kind: 'tcp', host: '127.0.0.1', port }
  }

  /** `script` plays the server's part in each connection; what it throws ends the connection. */
  static async start(script: (talker: Talker) => Promise<void>): Promise<FakeServer> {
    const server = net.createServer({ noDelay: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const fake = new FakeServer(server)
    server.on('connection', (socket) => {
      fake.sockets.add(socket)
      script(new Talker(socket)).catch(() => socket.destroy())
    })
    return fake
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
    await once(this.server, 'close')
  }
}

export interface Manner {
  readonly size: number
  readonly structured: boolean
  /** Whether options later than EXPORT_NAME are known. */
  readonly modern?: boolean
  /** Whether several connections see the same. */
  readonly multiConn?: boolean
  readonly fastZero?: boolean
}

const flagsOfAll = 0x1 | 0x4 | 0x8 | 0x20 | 0x40

/** A server's handshake, as it should be. */
export async function shakeHands(talker: Talker, manner: Manner): Promise<void> {
  const { size, structured, modern = true, multiConn = false, fastZero = false } = manner
  const flags = flagsOfAll | (multiConn ? 0x100 : 0) | (fastZero ? 0x800 : 0)
  talker.say(options.encodeGreeting())
  await talker.take(options.clientFlagsBytes)
  for (;;) {
    const { option, length } = options.decodeOption(await talker.take(16), 0)!
    await talker.take(length)
    const reply = (type: number, data: Buffer = none): void => {
      talker.say(options.encodeOptionReply(option, type, data))
    }
    if (option === Option.exportName) {
      talker.say(options.encodeExportNameReply(size, flags, 'none'))
      return
    }
    if (!modern) reply(Reply.errUnsup)
    else if (option === Option.structuredReply) reply(structured ? Reply.ack : Reply.errUnsup)
    else if (option === Option.setMetaContext) {
      reply(Reply.metaContext, options.encodeMetaContext(5, options.allocationContext))
      reply(Reply.ack)
    } else {
      reply(Reply.info, options.encodeInfo({ info: Info.export, size: BigInt(size), flags }))
      reply(Reply.ack)
      return
    }
  }
}

/** The next request, and a write's payload. */
export async function takeRequest(talker: Talker): Promise<codec.RequestHeader> {
  const header = new codec.RequestHeader()
  header.decode(await talker.take(codec.requestBytes), 0)
  if (header.type === codec.Command.write) await talker.take(header.length)
  return header
}

/** A chunk with its payload. */
export function chunk(
  { cookieHigh, cookieLow }: codec.RequestHeader,
  type: number,
  payload: Buffer,
  done = false,
): Buffer {
  const bytes = Buffer.alloc(codec.chunkHeaderBytes)
  codec.encodeChunk(bytes, 0, done ? 1 : 0, type, cookieHigh, cookieLow, payload.length)
  return Buffer.concat([bytes, payload])
}

export function simple({ cookieHigh, cookieLow }: codec.RequestHeader, error: number): Buffer {
  const bytes = Buffer.alloc(codec.simpleReplyBytes)
  codec.encodeSimpleReply(bytes, 0, error, cookieHigh, cookieLow)
  return bytes
}

/** The payload of a data chunk: `length` bytes of `fill` from `offset`. */
export function data(offset: number, length: number, fill = 1): Buffer {
  const bytes = Buffer.alloc(8 + length, fill)
  codec.writeUInt64(bytes, 0, offset)
  return bytes
}

export function hole(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(12)
  codec.writeUInt64(bytes, 0, offset)
  bytes.writeUInt32BE(length, 8)
  return bytes
}

export function failure(error: number, message: string, messageBytes = message.length): Buffer {
  const bytes = Buffer.alloc(6 + message.length)
  codec.encodeErrorPayload(bytes, 0, error, messageBytes)
  bytes.write(message, 6)
  return bytes
}

/** Big-endian 32-bit words. */
export function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [at, value] of values.entries()) bytes.writeUInt32BE(value, 4 * at)
  return bytes
}
