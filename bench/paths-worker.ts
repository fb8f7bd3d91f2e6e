import net from 'node:net'
import { Slab } from '../src/base/slab.ts'
import { Operation, Request } from '../src/device/request.ts'
import { Inbox, stagedPayloadMax } from '../src/net/inbox.ts'
import type { ConnectionHandler } from '../src/net/network.ts'
import { SocketNetwork } from '../src/net/sockets.ts'
import { AllocationCounter, nowAndThen } from './allocations.ts'
import { CopyCounter } from './copies.ts'
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
        else chunk.copy(target, have, at, at + taken)
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
const copies = new CopyCounter()

/** How many messages were moved in so many milliseconds. Counters run only where they say so. */
async function moved(milliseconds: number): Promise<number> {
  const before = messages
  await new Promise((resolve) => setTimeout(resolve, milliseconds))
  if (messages > before) return messages - before
  throw new Error('nothing was moved')
}

/** Objects and copies are counted for a moment afterwards: that slows everything down. */
async function measure(): Promise<void> {
  // What is compiled and pooled first is not the cost of a message.
  await moved(warmUpMilliseconds)
  counter.start(nowAndThen)
  const before = { cpu: process.cpuUsage(), at: performance.now() }
  const count = await moved(seconds * 1000)
  const cpu = process.cpuUsage(before.cpu)
  const spent = (performance.now() - before.at) / 1000
  const { bytes, collecting } = counter.stop()
  counter.start()
  const countedObjects = await moved(countMilliseconds)
  const { objects } = counter.stop()
  copies.start()
  const countedCopies = await moved(countMilliseconds)
  const copied = copies.stop()
  const result: PathResult = {
    way,
    size,
    bytesPerSecond: (count * size) / spent,
    cpu: (cpu.user + cpu.system) * 1000,
    messages: count,
    copiedPerByte: copied / (countedCopies * size),
    objectsPerMessage: objects / countedObjects,
    bytesPerMessage: bytes / count,
    collecting,
  }
  process.stdout.write(JSON.stringify(result), () => process.exit(0))
}

function begin(): void {
  measure().catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`, () => process.exit(1))
  })
}

const warmUpMilliseconds = 300
const countMilliseconds = 100

if (way === 'receive landing')
  await new SocketNetwork('landing').listen({ kind: 'unix', path: path! }, () => {
    begin()
    return new LandingReceiver()
  })
else
  net
    .createServer((socket) => {
      socket.on('error', () => process.exit(1))
      begin()
      if (way === 'receive list' || way === 'receive copy') receiveEvents(socket)
      else send(socket)
    })
    .listen(path)
