import { once } from 'node:events'
import net from 'node:net'
import type { Address } from '../../src/net/address.ts'
import {
  Command,
  decodeReply,
  encodeRequest,
  newReplyHeader,
  newRequestHeader,
  replyBytes,
  requestBytes,
  type ReplyHeader,
  type RequestHeader,
} from '../../src/wire/codec.ts'
import {
  decodePreface,
  decodeWelcome,
  encodeHello,
  prefaceBytes,
  Purpose,
  type Hello,
  type Welcome,
} from '../../src/wire/hello.ts'

/** A hello that a well-behaved client would send. */
export function hello(changes: Partial<Hello> = {}): Buffer {
  return encodeHello({
    purpose: Purpose.attach,
    index: 0,
    features: 0,
    client: '11'.repeat(16),
    epoch: 1,
    claim: 0,
    depth: 32,
    name: 'disk',
    ...changes,
  })
}

/** A request's header, for a write followed by its payload. */
export function request(changes: Partial<RequestHeader>, payload = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(requestBytes)
  const plain = { ...newRequestHeader(), command: Command.read, sequence: 1 }
  encodeRequest(bytes, 0, { ...plain, payload: payload.length, ...changes }, false)
  return Buffer.concat([bytes, payload])
}

export interface RawReply {
  readonly header: ReplyHeader
  readonly payload: Buffer
}

/** The client's side of a conversation, byte by byte, over a plain socket. */
export class RawClient {
  readonly socket: net.Socket
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<unknown>
  private bytes = Buffer.alloc(0)
  private more: (() => void) | null = null

  private constructor(socket: net.Socket) {
    this.socket = socket
    this.closed = new Promise((resolve) => socket.once('close', resolve))
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      this.bytes = Buffer.concat([this.bytes, chunk])
      this.more?.()
    })
  }

  static async connect(address: Address): Promise<RawClient> {
    const socket = net.connect(address.kind === 'unix' ? { path: address.path } : { ...address })
    await once(socket, 'connect')
    return new RawClient(socket)
  }

  send(...parts: Buffer[]): void {
    this.socket.write(Buffer.concat(parts))
  }

  async welcome(): Promise<Welcome> {
    const preface = decodePreface(await this.peek(prefaceBytes), 0)
    if (typeof preface === 'string') throw new Error(preface)
    const whole = await this.take(prefaceBytes + preface.length)
    const welcome = decodeWelcome(whole, 0, whole.length)
    if (typeof welcome === 'string') throw new Error(welcome)
    return welcome
  }

  async reply(): Promise<RawReply> {
    const header = newReplyHeader()
    const fault = decodeReply(await this.peek(replyBytes), 0, header, false)
    if (fault !== null) throw new Error(fault)
    const whole = await this.take(replyBytes + header.payload)
    return { header, payload: whole.subarray(replyBytes) }
  }

  destroy(): void {
    this.socket.destroy()
  }

  private async peek(length: number): Promise<Buffer> {
    while (this.bytes.length < length) {
      const arrived = new Promise<void>((resolve) => (this.more = resolve))
      await Promise.race([arrived, this.closed])
      if (this.socket.destroyed && this.bytes.length < length) throw new Error('closed')
    }
    return this.bytes.subarray(0, length)
  }

  private async take(length: number): Promise<Buffer> {
    const bytes = await this.peek(length)
    this.bytes = this.bytes.subarray(length)
    return bytes
  }
}
