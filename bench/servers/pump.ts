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
const flagsBytes = 4
const optionBytes = 16
const optionExportName = 1
const errorUnsupported = 0x80000001
/** There are flags; it takes flushes and FUA. */
const exportFlags = 1 | 4 | 8
const requestBytes = 28
const replyBytes = 16
const receiveBytes = 256 * 1024

class Pump {
  private readonly socket: net.Socket
  private readonly header = Buffer.alloc(64)
  private have = 0
  private wanted = optionBytes
  /** What comes first are flags, whatever they say. */
  private skipping = flagsBytes
  /** Null when the export was asked for, and requests follow; 0 before anything is asked. */
  private option: number | null = 0
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
    if (this.option === null) {
      this.request()
      return
    }
    this.option = this.header.readUInt32BE(8)
    this.skipping = this.header.readUInt32BE(12)
    if (this.skipping === 0) this.payloadTaken()
  }

  private payloadTaken(): void {
    if (this.option === null) this.reply()
    else if (this.option !== 0) this.answer(this.option)
  }

  /** All but the oldest option are unknown, so that clients come to that one. */
  private answer(option: number): void {
    if (option === optionExportName) {
      const answer = Buffer.alloc(10)
      answer.writeBigUInt64BE(BigInt(size))
      answer.writeUInt16BE(exportFlags, 8)
      this.socket.write(answer)
      this.option = null
      this.wanted = requestBytes
      return
    }
    const unknown = Buffer.alloc(20)
    unknown.writeBigUInt64BE(0x3e889045565a9n)
    unknown.writeUInt32BE(option, 8)
    unknown.writeUInt32BE(errorUnsupported, 12)
    this.socket.write(unknown)
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
