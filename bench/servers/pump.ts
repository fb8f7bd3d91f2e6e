import net from 'node:net'

/**
 * The limit beside the figures: a plain Node socket that moves the same sizes. It answers NBD, so
 * that the same client drives it, and does nothing else: no tree, no checks, no memory behind it,
 * one write per delivery. Nothing here is a server to be used.
 */

const size = Number(process.argv[3])
const payload = Buffer.alloc(1024 * 1024, 0x5a)
const requestMagic = 0x25609513
const replyMagic = 0x67446698
const requestBytes = 28
const replyBytes = 16
const receiveBytes = 256 * 1024

class Pump {
  private readonly socket: net.Socket
  private readonly header = Buffer.alloc(64)
  private have = 0
  private wanted = 4
  private skipping = 0
  private state: 'flags' | 'option' | 'optionData' | 'request' = 'flags'
  private option = 0
  private replies = Buffer.alloc(0)
  private queued = 0

  constructor(socket: net.Socket) {
    this.socket = socket
    const hello = Buffer.alloc(18)
    hello.write('NBDMAGICIHAVEOPT', 'latin1')
    hello.writeUInt16BE(3, 16)
    socket.write(hello)
  }

  take(bytes: Buffer, end: number): void {
    this.socket.cork()
    // One buffer for all replies to this delivery: the socket may still send those to the last.
    this.replies = Buffer.allocUnsafe(replyBytes * Math.ceil(end / requestBytes + 1))
    this.queued = 0
    for (let at = 0; at < end;) {
      if (this.skipping > 0) {
        const skipped = Math.min(this.skipping, end - at)
        this.skipping -= skipped
        at += skipped
        if (this.skipping === 0) this.payloadTaken()
        continue
      }
      const copied = bytes.copy(
        this.header,
        this.have,
        at,
        Math.min(end, at + this.wanted - this.have),
      )
      this.have += copied
      at += copied
      if (this.have < this.wanted) break
      this.have = 0
      this.message()
    }
    this.socket.uncork()
  }

  private message(): void {
    const { header } = this
    if (this.state === 'flags') this.expect('option', 16)
    else if (this.state === 'option') {
      this.option = header.readUInt32BE(8)
      const length = header.readUInt32BE(12)
      this.state = 'optionData'
      this.skipping = length
      if (length === 0) this.payloadTaken()
    } else this.request()
  }

  private payloadTaken(): void {
    if (this.state === 'request') this.reply()
    else this.answerOption()
  }

  /** GO and INFO are answered with the export, everything else as unknown. */
  private answerOption(): void {
    const known = this.option === 6 || this.option === 7
    if (known) {
      const info = Buffer.alloc(12)
      info.writeBigUInt64BE(BigInt(size), 2)
      info.writeUInt16BE(1 | 4 | 8, 10)
      this.optionReply(3, info)
    }
    this.optionReply(known ? 1 : 0x80000001, Buffer.alloc(0))
    if (this.option === 7) this.expect('request', requestBytes)
    else this.expect('option', 16)
  }

  private optionReply(type: number, data: Buffer): void {
    const reply = Buffer.alloc(20)
    reply.writeBigUInt64BE(0x3e889045565a9n)
    reply.writeUInt32BE(this.option, 8)
    reply.writeUInt32BE(type, 12)
    reply.writeUInt32BE(data.length, 16)
    this.socket.write(reply)
    this.socket.write(data)
  }

  private request(): void {
    const { header } = this
    if (header.readUInt32BE(0) !== requestMagic) {
      this.socket.destroy()
      return
    }
    const type = header.readUInt16BE(6)
    const length = header.readUInt32BE(24)
    if (type === 2) this.socket.destroy()
    else if (type === 1) this.skipping = length
    else {
      this.reply()
      if (type === 0) this.socket.write(payload.subarray(0, length))
    }
  }

  private reply(): void {
    const at = this.queued
    this.queued += replyBytes
    const reply = this.replies.subarray(at, at + replyBytes)
    reply.writeUInt32BE(replyMagic, 0)
    reply.writeUInt32BE(0, 4)
    this.header.copy(reply, 8, 8, 16)
    this.socket.write(reply)
  }

  private expect(state: 'option' | 'request', bytes: number): void {
    this.state = state
    this.wanted = bytes
  }
}

const server = net.createServer(
  { pauseOnConnect: true, highWaterMark: 1024 * 1024 },
  (accepted) => {
    const { _handle: handle } = accepted as unknown as { _handle: unknown }
    let pump: Pump | null = null
    const socket = new net.Socket({
      handle,
      onread: {
        buffer: Buffer.alloc(receiveBytes),
        callback: (bytes: number, buffer: Buffer) => {
          pump?.take(buffer, bytes)
          return true
        },
      },
    } as unknown as net.SocketConstructorOpts)
    pump = new Pump(socket)
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.destroy())
    socket.resume()
  },
)
const [, , at] = process.argv
if (/^\d+$/.test(at!)) server.listen(Number(at), '127.0.0.1')
else server.listen(at)
process.on('SIGTERM', () => process.exit(0))
