import net from 'node:net'
import { once } from 'node:events'
import type { Address } from '../../src/net/address.ts'
import * as codec from '../../src/nbd/codec.ts'
import * as options from '../../src/nbd/options.ts'
import { Info, Option } from '../../src/nbd/options.ts'

/** A reply to a request, of either kind; a structured one with all its chunks joined. */
export interface Answer {
  readonly cookie: number
  readonly error: number
  readonly data: Buffer
  readonly chunks: number
  /** Of a structured error: the sentence for people. */
  readonly message?: string
}

export interface OptionAnswer {
  readonly type: number
  readonly data: Buffer
}

/** One side of a conversation in NBD, word by word: for saying what no decent client says. */
export class Talker {
  readonly socket: net.Socket
  /** What nobody took yet: in pieces, because joining them at each arrival takes their square. */
  private pieces: Buffer[] = []
  private bytes = 0
  private ended = false
  private wake: () => void = () => undefined

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.pieces.push(chunk)
      this.bytes += chunk.length
      this.wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.ended = true
      this.wake()
    })
  }

  static async connect(address: Address): Promise<Talker> {
    const to = address.kind === 'unix' ? { path: address.path } : { ...address }
    const socket = net.connect(to)
    await once(socket, 'connect')
    return new Talker(socket)
  }

  /** Connects, and takes the greeting. */
  static async greeted(address: Address, flags = 3): Promise<Talker> {
    const talker = await Talker.connect(address)
    await talker.take(options.greetingBytes)
    talker.say(options.encodeClientFlags(flags))
    return talker
  }

  /** All the way into transmission. */
  static async using(address: Address, name: string, structured: boolean): Promise<Talker> {
    const talker = await Talker.greeted(address)
    if (structured) {
      await talker.option(Option.structuredReply)
      const queries = [options.allocationContext]
      await talker.option(Option.setMetaContext, options.encodeMetaRequest({ name, queries }))
    }
    const answers = await talker.go(name)
    if (answers.at(-1)!.type !== options.Reply.ack) throw new Error('GO was refused')
    return talker
  }

  say(bytes: Buffer): void {
    this.socket.write(bytes)
  }

  /** The next `bytes`; rejects when the other side closes before. */
  async take(bytes: number): Promise<Buffer> {
    while (this.bytes < bytes) {
      if (this.ended) throw new Error(`closed after ${this.bytes} of ${bytes} bytes`)
      await new Promise<void>((resolve) => (this.wake = resolve))
    }
    const all = this.unread()
    this.pieces = [all.subarray(bytes)]
    this.bytes -= bytes
    return all.subarray(0, bytes)
  }

  /** Resolves with what was unread when the other side closed. */
  async closed(): Promise<Buffer> {
    while (!this.ended) await new Promise<void>((resolve) => (this.wake = resolve))
    return this.unread()
  }

  private unread(): Buffer {
    return this.pieces.length === 1 ? this.pieces[0]! : Buffer.concat(this.pieces)
  }

  close(): void {
    this.socket.destroy()
  }

  /** Sends an option and takes its replies, to the last. */
  option(option: number, data: Buffer = Buffer.alloc(0)): Promise<OptionAnswer[]> {
    this.say(options.encodeOption(option, data))
    return this.optionReplies(option)
  }

  async optionReplies(option: number): Promise<OptionAnswer[]> {
    const answers: OptionAnswer[] = []
    for (;;) {
      const header = await this.take(options.optionReplyHeaderBytes)
      const reply = options.decodeOptionReply(header, 0)
      if (reply?.option !== option) throw new Error('not a reply to the option')
      answers.push({ type: reply.type, data: await this.take(reply.length) })
      const { type } = reply
      if (type === options.Reply.ack || type >= options.replyErrorBit) return answers
    }
  }

  go(name: string, infos: number[] = [Info.blockSize]): Promise<OptionAnswer[]> {
    return this.option(Option.go, options.encodeInfoRequest({ name, infos }))
  }

  request(type: number, offset: number, length: number, cookie = 1, flags = 0): Buffer {
    const header = new codec.RequestHeader()
    Object.assign(header, { type, flags, offset, length, cookieHigh: 7, cookieLow: cookie })
    const bytes = Buffer.alloc(codec.requestBytes)
    header.encode(bytes, 0)
    return bytes
  }

  /** Sends a request and takes the answer. */
  ask(type: number, offset: number, length: number, flags = 0, payload: Buffer = Buffer.alloc(0)) {
    this.say(Buffer.concat([this.request(type, offset, length, 1, flags), payload]))
    return this.answer(type === codec.Command.read ? length : 0)
  }

  /** The next answer; a simple one without error is followed by `simpleBytes` of data. */
  async answer(simpleBytes = 0): Promise<Answer> {
    const data: Buffer[] = []
    let message = ''
    for (let chunks = 0, error = 0; ;) {
      const header = new codec.ReplyHeader()
      const start = await this.take(codec.simpleReplyBytes)
      if (header.decode(start, 0, start.length) === null) {
        const cookie = header.cookieLow
        if (header.error !== 0) return { cookie, error: header.error, data: start, chunks }
        return { cookie, error, data: await this.take(simpleBytes), chunks }
      }
      const whole = Buffer.concat([start, await this.take(4)])
      if (header.decode(whole, 0, whole.length) !== null) throw new Error('not a reply')
      const payload = await this.take(header.length)
      chunks++
      if ((header.type & codec.chunkErrorBit) !== 0) {
        error = payload.readUInt32BE(0)
        message = payload.toString('utf8', 6)
      } else if (header.type === codec.ChunkType.offsetData) data.push(payload.subarray(8))
      else data.push(payload)
      if ((header.flags & codec.chunkDone) === 0) continue
      return { cookie: header.cookieLow, error, data: Buffer.concat(data), chunks, message }
    }
  }
}
