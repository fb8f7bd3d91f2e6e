import { systemClock } from '../../src/base/clock.ts'
import type { StorageError } from '../../src/base/errors.ts'
import type { Slab } from '../../src/base/slab.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { Inbox } from '../../src/net/inbox.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { Outbox } from '../../src/net/outbox.ts'

/** What a frame asks the echo server to do with its payload. */
export const Act = { echo: 0, skip: 1, stall: 2, end: 3 } as const

/** Length of the payload (u32), an act (u32). */
export const frameHeaderBytes = 8

export function frame(act: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(frameHeaderBytes)
  header.writeUInt32LE(payload.length, 0)
  header.writeUInt32LE(act, 4)
  return Buffer.concat([header, payload])
}

const nobody = { completed: (): void => undefined }

/** The smallest protocol over `Inbox` and `Outbox`: every frame comes back as it was sent. */
export class EchoHandler implements ConnectionHandler {
  readonly connection: Connection
  readonly inbox: Inbox
  readonly outbox: Outbox
  frames = 0
  closedWith: StorageError | null | undefined
  onClosed: () => void = () => undefined
  private readonly stallMs: number
  private request: Request | null = null
  private answering = false

  constructor(connection: Connection, slab: Slab, stallMs = 5) {
    this.connection = connection
    this.inbox = new Inbox(slab)
    this.outbox = new Outbox(connection, slab, systemClock)
    this.stallMs = stallMs
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    if (this.inbox.landed(bytes)) this.parse()
  }

  sent(): void {
    this.outbox.sent()
  }

  closed(reason: StorageError | null): void {
    this.closedWith = reason
    this.request?.complete()
    this.request?.release()
    this.inbox.close()
    this.outbox.close()
    this.onClosed()
  }

  private parse(): void {
    const { inbox } = this
    for (;;) {
      if (this.request !== null) this.answer(this.request)
      if (!inbox.need(frameHeaderBytes)) return
      const length = inbox.bytes.readUInt32LE(inbox.at)
      const act = inbox.bytes.readUInt32LE(inbox.at + 4)
      if (act === Act.stall && !this.answering) {
        this.answering = true
        inbox.stall()
        this.connection.pause()
        systemClock.timer(this.stallMs, () => {
          inbox.unstall()
          this.connection.resume()
          if (this.closedWith === undefined) this.parse()
        })
        return
      }
      this.answering = false
      inbox.consume(frameHeaderBytes)
      this.frames++
      if (act === Act.end) {
        this.outbox.flush()
        this.connection.end()
        return
      }
      if (act === Act.skip) {
        if (!inbox.skip(length)) return
        continue
      }
      this.request = Request.take(Operation.write, 0, length, act, nobody)
      if (!inbox.takePayload(this.request, length)) return
    }
  }

  private answer(request: Request): void {
    this.request = null
    const at = this.outbox.reserve(frameHeaderBytes)
    this.outbox.bytes.writeUInt32LE(request.length, at)
    this.outbox.bytes.writeUInt32LE(request.flags, at + 4)
    this.outbox.payload(request)
    this.outbox.schedule()
    request.complete()
    request.release()
  }
}
