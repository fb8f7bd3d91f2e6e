import net from 'node:net'
import { Slab } from '../src/base/slab.ts'
import { Operation, Request } from '../src/device/request.ts'
import { Inbox, stagedPayloadMax } from '../src/net/inbox.ts'
import type { ConnectionHandler } from '../src/net/network.ts'
import { SocketNetwork } from '../src/net/sockets.ts'
import { AllocationCounter, nowAndThen } from './allocations.ts'
import { headerBytes, type PathResult, type Way } from './paths.ts'

/**
 * Receives or sends messages of a header and a payload in one of several ways, for a while, and
 * says what that cost. Started by `paths.ts`: way, bytes of a payload, seconds, the socket's path.
 */
const [, , wayText, sizeText, secondsText, path] = process.argv
const way = wayText as Way
const size = Number(sizeText)
const seconds = Number(secondsText)

const slab = new Slab()
let messages = 0
let copied = 0

const never = { completed: (): void => undefined }

/** Payloads land in their final buffer: what the target does. */
class LandingReceiver implements ConnectionHandler {
  private readonly inbox = new Inbox(slab)
  private request: Request | null = null

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    if (!this.inbox.landed(bytes)) return
    for (;;) {
      if (this.request !== null) this.finish(this.request)
      const staged = size <= stagedPayloadMax ? headerBytes + size : headerBytes
      if (!this.inbox.need(staged)) return
      this.inbox.consume(headerBytes)
      this.request = Request.take(Operation.write, 0, size, 0, never)
      if (!this.inbox.takePayload(this.request, size)) return
    }
  }

  sent(): void {
    // Nothing is sent.
  }

  closed(): void {
    process.exit(0)
  }

  private finish(request: Request): void {
    messages++
    this.request = null
    request.complete()
    request.release()
  }
}

/** Payloads are lists of what the socket gave (`list`), or copied together from it (`copy`). */
function receiveEvents(socket: net.Socket): void {
  let wanted = headerBytes
  let inHeader = true
  let list: Buffer[] = []
  let target = Buffer.allocUnsafeSlow(size)
  let have = 0
  socket.on('data', (chunk) => {
    for (let at = 0; at < chunk.length;) {
      const taken = Math.min(wanted - have, chunk.length - at)
      if (!inHeader) {
        if (way === 'receive list') list.push(chunk.subarray(at, at + taken))
        else {
          chunk.copy(target, have, at, at + taken)
          copied += taken
        }
      }
      have += taken
      at += taken
      if (have < wanted) break
      have = 0
      inHeader = !inHeader
      wanted = inHeader ? headerBytes : size
      if (!inHeader) continue
      messages++
      list = []
      if (way === 'receive copy') target = Buffer.allocUnsafeSlow(size)
    }
  })
}

/** Headers and payloads given to the socket as a list (`list`), or copied together (`copy`). */
function send(socket: net.Socket): void {
  const payload = Buffer.alloc(size, 1)
  const batch = Math.max(1, Math.min(32, Math.floor(batchBytes / size)))
  const headers = Buffer.alloc(batch * headerBytes, 2)
  const fill = (): void => {
    socket.cork()
    if (way === 'send copy') {
      const staging = Buffer.allocUnsafeSlow(batch * (headerBytes + size))
      for (let at = 0, n = 0; n < batch; n++) {
        at += headers.copy(staging, at, 0, headerBytes)
        at += payload.copy(staging, at)
      }
      copied += batch * size
      socket.write(staging)
    } else
      for (let n = 0; n < batch; n++) {
        socket.write(headers.subarray(n * headerBytes, (n + 1) * headerBytes))
        socket.write(payload)
      }
    messages += batch
    socket.uncork()
    if (socket.writableNeedDrain) socket.once('drain', fill)
    else setImmediate(fill)
  }
  fill()
}

const batchBytes = 128 * 1024

const counter = new AllocationCounter()

/** Objects are counted for a moment afterwards: counting them all slows everything down. */
function measure(): void {
  // What is compiled and pooled first is not the cost of a message.
  setTimeout(() => {
    counter.start(nowAndThen)
    const before = { messages, copied, cpu: process.cpuUsage(), at: performance.now() }
    setTimeout(() => {
      const cpu = process.cpuUsage(before.cpu)
      const spent = (performance.now() - before.at) / 1000
      const { bytes, collecting } = counter.stop()
      const count = messages - before.messages
      const copies = copied - before.copied
      const atStart = messages
      counter.start()
      setTimeout(() => {
        const { objects } = counter.stop()
        const result: PathResult = {
          way,
          size,
          bytesPerSecond: (count * size) / spent,
          cpu: (cpu.user + cpu.system) * 1000,
          messages: count,
          copiedPerByte: count === 0 ? 0 : copies / (count * size),
          objectsPerMessage: objects / Math.max(1, messages - atStart),
          bytesPerMessage: bytes / Math.max(1, count),
          collecting,
        }
        process.stdout.write(JSON.stringify(result), () => process.exit(0))
      }, countMilliseconds)
    }, seconds * 1000)
  }, warmUpMilliseconds)
}

const warmUpMilliseconds = 300
const countMilliseconds = 50

if (way === 'receive landing')
  await new SocketNetwork('landing').listen({ kind: 'unix', path: path! }, () => {
    measure()
    return new LandingReceiver()
  })
else
  net
    .createServer((socket) => {
      socket.on('error', () => process.exit(1))
      measure()
      if (way === 'receive list' || way === 'receive copy') receiveEvents(socket)
      else send(socket)
    })
    .listen(path)
