import net from 'node:net'
import { readsOnly, type Work } from './work.ts'
import { SeededRandom } from '../../test/support/seeded.ts'

const requestBytes = 28
const replyBytes = 16
/** Of a reply: its error is a small number of four bytes, of which this is the last. */
const errorByte = 7
const requestMagic = 0x25609513
/** Bytes of the server's greeting, of the request before the export's name, and of its answer. */
const greetingBytes = 18
const helloBytes = 20
const exportBytes = 10
const fixedWithoutZeroes = 3
const optionExportName = 1
/** Milliseconds until a server has to go on: one that says too little would hang a run. */
const answerTimeout = 60_000

/**
 * An NBD client that fires in volleys: `depth` requests in one write, and the next ones when all
 * of them are answered. A server then gets the same batches whatever else the machine does, which
 * leaves far less chance in what an operation costs it than a client that asks as it can.
 */
export class Volley {
  private readonly socket: net.Socket
  /** What came of the handshake; while volleys fly, bytes are only counted. */
  private said: Buffer[] | null = []
  private awaited = 0
  /** Bytes of a volley's answers that came; `headers` of them in a row are replies' headers. */
  private taken = 0
  private headers = 0
  private settle: ((error: Error | null) => void) | null = null
  private failure: Error | null = null
  private readonly random = new SeededRandom(1)
  /** Bytes of the volume. */
  private size = 0

  private constructor(socket: net.Socket) {
    this.socket = socket
  }

  /** Connects to an NBD export at a unix socket and negotiates. */
  static async connect(uri: string): Promise<Volley> {
    const { pathname, searchParams } = new URL(uri)
    let volley: Volley | null = null
    const socket = net.connect({
      path: searchParams.get('socket')!,
      onread: {
        buffer: Buffer.alloc(1024 * 1024),
        callback: (bytes, buffer) => {
          volley?.received(Buffer.from(buffer.buffer, buffer.byteOffset, bytes))
          return true
        },
      },
    })
    volley = new Volley(socket)
    try {
      await volley.negotiate(pathname.slice(1))
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
  async run(work: Work, milliseconds: number): Promise<number> {
    const { depth, blockSize } = work
    const volley = this.prepare(work)
    const payload = readsOnly(work) ? depth * blockSize : 0
    const deadline = performance.now() + milliseconds
    let operations = 0
    do {
      volley.aim()
      await this.fire(volley.bytes, depth, payload)
      operations += depth
    } while (performance.now() < deadline)
    return operations
  }

  close(): void {
    this.socket.destroy()
  }

  /** The bytes of a volley, and a function that points its requests at other blocks. */
  private prepare(work: Work): { bytes: Buffer; aim: () => void } {
    const { pattern, blockSize, depth } = work
    const { random } = this
    const reads = readsOnly(work)
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
    const aim = (): void => {
      for (let at = 0; at < depth; at++) {
        const block = pattern.startsWith('rand') ? random.below(blocks) : next++ % blocks
        const offset = block * blockSize
        bytes.writeUInt32BE(Math.floor(offset / 2 ** 32), at * each + 16)
        bytes.writeUInt32BE(offset % 2 ** 32, at * each + 20)
      }
    }
    return { bytes, aim }
  }

  /** Sends requests; all are answered when it resolves, with `payload` bytes in all. */
  private fire(bytes: Buffer, requests: number, payload: number): Promise<void> {
    const replies = requests * replyBytes
    // Later headers look like payload. A failed read shows all the same: its payload is missing.
    return this.exchange(bytes, replies + payload, payload === 0 ? replies : replyBytes)
  }

  /** Resolves when so many bytes have come; the first of them are headers of replies. */
  private exchange(bytes: Buffer, awaited: number, headers: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.settle = (error) => {
        this.settle = null
        if (error === null) resolve()
        else reject(error)
      }
      this.awaited = awaited
      this.taken = 0
      this.headers = headers
      if (this.failure === null) this.socket.write(bytes)
      else this.fail(this.failure)
    })
  }

  private received(bytes: Buffer): void {
    this.said?.push(Buffer.from(bytes))
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
    socket.setTimeout(answerTimeout, () => {
      if (this.settle !== null) this.fail(new Error('the server does not answer'))
    })
    socket.on('error', (error) => this.fail(error))
    socket.on('close', () => this.fail(new Error('the server has closed the connection')))
    const hello = Buffer.alloc(helloBytes)
    hello.writeUInt32BE(fixedWithoutZeroes)
    hello.write('IHAVEOPT', 4, 'latin1')
    hello.writeUInt32BE(optionExportName, 12)
    hello.writeUInt32BE(name.length, 16)
    // The client does not wait for the greeting, because every server here sends the same one.
    const answerBytes = greetingBytes + exportBytes
    await this.exchange(Buffer.concat([hello, Buffer.from(name)]), answerBytes, 0)
    this.size = Number(Buffer.concat(this.said ?? []).readBigUInt64BE(greetingBytes))
    this.said = null
  }
}
