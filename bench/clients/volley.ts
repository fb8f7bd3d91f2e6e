import net from 'node:net'
import { SeededRandom } from '../../src/base/random.ts'
import type { Work } from './work.ts'

const requestBytes = 28
const replyBytes = 16
/** Of a reply: its error is a small number of four bytes, of which this is the last. */
const errorByte = 7
const requestMagic = 0x25609513
const commandFlush = 3
/** Of an export's flags: NBD_FLAG_SEND_FLUSH. */
const flagFlush = 1 << 2
const optionReplyBytes = 20
/** Bytes of the greeting, and of an option's header without its data. */
const greetingBytes = 18
const optionBytes = 16
const optionGo = 7
const replyAck = 1
/** Milliseconds that a run may take longer: a server that says too little would hang it. */
const runTimeout = 20_000
/** Milliseconds for writing a whole volume. */
const fillTimeout = 60_000

const filling: Work = { pattern: 'write', blockSize: 1024 * 1024, depth: 4 }

/**
 * An NBD client that fires in volleys: `depth` requests in one write, and the next ones when all
 * of them are answered. A server then gets the same batches whatever else the machine does, which
 * leaves far less chance in what an operation costs it than a client that asks as it can.
 */
export class Volley {
  private readonly socket: net.Socket
  /** What came and is not understood yet; while volleys fly, bytes are only counted. */
  private greeting = Buffer.alloc(0)
  private awaited = 0
  /** Bytes of a volley's answers that came; `headers` of them in a row are replies' headers. */
  private taken = 0
  private headers = 0
  private settle: ((error: Error | null) => void) | null = null
  private failure: Error | null = null
  private readonly random = new SeededRandom(1)
  private negotiating = true
  /** Bytes of the volume. */
  private size = 0
  private flushes = false

  private constructor(socket: net.Socket) {
    this.socket = socket
  }

  /** Connects to an NBD export and negotiates. */
  static async connect(uri: string): Promise<Volley> {
    const { hostname, port, pathname, searchParams } = new URL(uri)
    const path = searchParams.get('socket')
    const at = path === null ? { host: hostname, port: Number(port) } : { path }
    let volley: Volley | null = null
    const socket = net.connect({
      ...at,
      onread: {
        buffer: Buffer.alloc(1024 * 1024),
        callback: (bytes, buffer) => {
          volley?.received(Buffer.from(buffer.buffer, buffer.byteOffset, bytes))
          return true
        },
      },
    })
    volley = new Volley(socket)
    socket.setNoDelay()
    try {
      await volley.within(runTimeout, () => volley.negotiate(pathname.slice(1)))
    } catch (error) {
      volley.close()
      throw error
    }
    return volley
  }

  /**
   * Does `work` for so many milliseconds, and returns how many operations that were. Rejects when
   * the server fails a request, goes away or does not answer.
   */
  run(work: Work, milliseconds: number): Promise<number> {
    const { depth, blockSize } = work
    const volley = this.prepare(work)
    const deadline = performance.now() + milliseconds
    return this.within(milliseconds + runTimeout, async () => {
      let operations = 0
      do {
        const reads = volley.aim()
        await this.fire(volley.bytes, depth, reads * blockSize)
        operations += depth
      } while (performance.now() < deadline)
      return operations
    })
  }

  /**
   * Writes the whole volume once: reads are of what is there, and nothing waits to be written.
   * Rejects as `run` does.
   */
  fill(): Promise<void> {
    const { bytes, aim } = this.prepare(filling)
    return this.within(fillTimeout, async () => {
      for (let done = 0; done < this.size; done += filling.depth * filling.blockSize) {
        aim()
        await this.fire(bytes, filling.depth, 0)
      }
      if (!this.flushes) return
      const flush = Buffer.alloc(requestBytes)
      flush.writeUInt32BE(requestMagic)
      flush.writeUInt32BE(commandFlush, 4)
      await this.fire(flush, 1, 0)
    })
  }

  close(): void {
    this.socket.destroy()
  }

  /** The bytes of a volley, and a function that points its requests at other blocks. */
  private prepare({ pattern, blockSize, depth }: Work): { bytes: Buffer; aim: () => number } {
    if (pattern === 'randrw') throw new TypeError('a volley reads or writes')
    const { random } = this
    const reads = pattern.endsWith('read')
    const each = requestBytes + (reads ? 0 : blockSize)
    const bytes = Buffer.alloc(depth * each, 0x6d)
    const blocks = Math.floor(this.size / blockSize)
    let next = 0
    for (let at = 0; at < depth; at++) {
      bytes.writeUInt32BE(requestMagic, at * each)
      bytes.writeUInt32BE(reads ? 0 : 1, at * each + 4)
      bytes.writeBigUInt64BE(BigInt(at), at * each + 8)
      bytes.writeUInt32BE(blockSize, at * each + 24)
    }
    const aim = (): number => {
      for (let at = 0; at < depth; at++) {
        const block = pattern.startsWith('rand') ? random.below(blocks) : next++ % blocks
        const offset = block * blockSize
        bytes.writeUInt32BE(Math.floor(offset / 2 ** 32), at * each + 16)
        bytes.writeUInt32BE(offset % 2 ** 32, at * each + 20)
      }
      return reads ? depth : 0
    }
    return { bytes, aim }
  }

  /** What takes longer than so many milliseconds has failed. */
  private async within<T>(milliseconds: number, task: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.fail(new Error('the server does not answer')), milliseconds)
    try {
      return await task()
    } finally {
      clearTimeout(timer)
    }
  }

  /** Sends requests; all are answered when it resolves, with `payload` bytes in all. */
  private fire(bytes: Buffer, requests: number, payload: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.settle = (error) => {
        if (error === null) resolve()
        else reject(error)
      }
      this.awaited = requests * replyBytes + payload
      this.taken = 0
      // Among payloads nobody looks for the others: a failed read has none, so bytes are missing.
      this.headers = payload === 0 ? this.awaited : replyBytes
      if (this.failure === null) this.socket.write(bytes)
      else this.fail(this.failure)
    })
  }

  private received(bytes: Buffer): void {
    if (this.negotiating) {
      this.greeting = Buffer.concat([this.greeting, bytes])
      this.settle?.(null)
      return
    }
    const error = this.errorIn(bytes)
    if (error !== 0) this.fail(new Error(`the server answers with error ${error}`))
    this.awaited -= bytes.length
    this.taken += bytes.length
    if (this.awaited > 0) return
    if (this.awaited < 0) this.fail(new Error('the server sent more than was asked for'))
    else this.settle?.(null)
  }

  /** The last byte of a reply's error, which is never 0 where there is one; else 0. */
  private errorIn(bytes: Buffer): number {
    const first = (errorByte + replyBytes - (this.taken % replyBytes)) % replyBytes
    const end = Math.min(bytes.length, this.headers - this.taken)
    for (let at = first; at < end; at += replyBytes) if (bytes[at] !== 0) return bytes[at]!
    return 0
  }

  private fail(error: Error): void {
    this.failure ??= error
    this.settle?.(this.failure)
  }

  private async negotiate(name: string): Promise<void> {
    const { socket } = this
    socket.on('error', (error) => this.fail(error))
    socket.on('close', () => this.fail(new Error('the server has closed the connection')))
    await this.have(greetingBytes)
    const hello = Buffer.alloc(4 + optionBytes + 4 + name.length + 2)
    hello.writeUInt32BE(3, 0)
    hello.write('IHAVEOPT', 4, 'latin1')
    hello.writeUInt32BE(optionGo, 12)
    hello.writeUInt32BE(hello.length - 4 - optionBytes, 16)
    hello.writeUInt32BE(name.length, 20)
    hello.write(name, 24, 'latin1')
    socket.write(hello)
    for (let at = greetingBytes, type = 0; type !== replyAck;) {
      await this.have(at + optionReplyBytes)
      type = this.greeting.readUInt32BE(at + 12)
      const length = this.greeting.readUInt32BE(at + 16)
      if (type >= 2 ** 31) throw new Error(`the server refuses the export: ${type.toString(16)}`)
      await this.have(at + optionReplyBytes + length)
      // NBD_INFO_EXPORT: a type of two bytes, the size, flags.
      if (type !== replyAck && this.greeting.readUInt16BE(at + optionReplyBytes) === 0) {
        this.size = Number(this.greeting.readBigUInt64BE(at + optionReplyBytes + 2))
        this.flushes = (this.greeting.readUInt16BE(at + optionReplyBytes + 10) & flagFlush) !== 0
      }
      at += optionReplyBytes + length
    }
    this.negotiating = false
  }

  private async have(bytes: number): Promise<void> {
    while (this.greeting.length < bytes)
      await new Promise<void>((resolve, reject) => {
        this.settle = (error) => {
          if (error === null) resolve()
          else reject(error)
        }
        if (this.failure !== null) reject(this.failure)
      })
  }
}
