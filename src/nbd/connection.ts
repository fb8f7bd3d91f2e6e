import type { Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { Inbox } from '../net/inbox.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import { Outbox } from '../net/outbox.ts'
import type { Room, Waiter } from '../export/admission.ts'
import type { ClientStatus, ServiceContext } from '../export/service.ts'

/** What a connection is busy with: negotiating, then transmission. */
export interface Phase {
  /** The export in use; null while it is negotiated. */
  readonly exportName: string | null
  readonly inFlight: number
  /** Parses what has landed. */
  run(): void
  /** The socket has let go of `bytes` of what was queued. */
  sent(bytes: number): void
  /** Answers what is in flight, takes nothing new, then ends the connection. */
  drain(): void
  /** There is room now for what was asked for. */
  admitted(): void
  /** The connection is gone. */
  closed(): void
}

/** One client's connection to an NBD server: its bytes in and out, and who reads them now. */
export class ServerConnection implements ConnectionHandler, Waiter {
  readonly context: ServiceContext
  readonly connection: Connection
  readonly inbox: Inbox
  readonly outbox: Outbox
  readonly room: Room
  private readonly left: (connection: ServerConnection) => void
  private readonly since: number
  private phase: Phase | null = null
  private isClosed = false
  /** Runs while there may be something to send; see `watchSending`. */
  private sendTimer: Timer | null = null

  /** `left` is told when the connection is gone. */
  constructor(
    context: ServiceContext,
    connection: Connection,
    left: (connection: ServerConnection) => void,
  ) {
    this.context = context
    this.connection = connection
    this.left = left
    this.inbox = new Inbox(context.slab)
    this.outbox = new Outbox(connection, context.slab, context.clock)
    this.room = context.admission.join(connection.origin, this)
    this.since = context.clock.wall()
  }

  get open(): boolean {
    return !this.isClosed
  }

  get status(): ClientStatus {
    return {
      protocol: 'nbd',
      peer: this.connection.peer,
      export: this.phase?.exportName ?? null,
      connections: 1,
      inFlight: this.phase?.inFlight ?? 0,
      since: this.since,
    }
  }

  begin(phase: Phase): void {
    this.phase = phase
  }

  drain(): void {
    this.phase!.drain()
  }

  /** Closes at once because of what the peer did. */
  fail(error: StorageError): void {
    if (this.isClosed) return
    this.context.log.info(
      { peer: this.connection.peer, code: error.code },
      `nbd client dropped: ${error.message}`,
    )
    this.inbox.stall()
    this.connection.destroy()
  }

  /** Sends what is queued, now. */
  flush(): void {
    this.outbox.flush()
    this.watchSending()
  }

  /** Sends what is queued: at the end of this turn, or now if nothing could join it until then. */
  schedule(): void {
    if (this.phase?.inFlight === 0 && !this.inbox.filled) this.outbox.flush()
    else this.outbox.schedule()
    this.watchSending()
  }

  /** No bytes are parsed until `proceed`. */
  stall(): void {
    this.inbox.stall()
    this.connection.pause()
  }

  /** Goes on after `stall`; the caller parses what is there already. */
  proceed(): void {
    this.inbox.unstall()
    this.connection.resume()
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    if (!this.inbox.landed(bytes)) return
    this.phase!.run()
    // More is there when all room was taken: what it asks for goes out together with this.
    if (this.inbox.filled) this.schedule()
    else this.flush()
  }

  sent(): void {
    const queued = this.outbox.bytesQueued
    this.outbox.sent()
    this.phase!.sent(queued - this.outbox.bytesQueued)
  }

  admitted(): void {
    this.phase!.admitted()
  }

  closed(): void {
    this.isClosed = true
    this.sendTimer?.cancel()
    this.room.leave()
    this.phase!.closed()
    this.inbox.close()
    this.outbox.close()
    this.left(this)
  }

  /**
   * One timer looks at the sending from time to time, so that a reply costs a comparison: a client
   * that lets nothing through between two looks is dropped; so is one that holds more than others
   * can have who wait for room, if it has not taken all that waited for it at the look before.
   */
  private watchSending(): void {
    if (this.sendTimer === null && this.outbox.bytesQueued > 0 && !this.isClosed) this.watch()
  }

  /** By itself, because a function that holds a closure allocates for it whenever it is called. */
  private watch(): void {
    const { outbox } = this
    const { batchesSent: sent, batchesFlushed: due } = outbox
    const { limits, clock } = this.context
    this.sendTimer = clock.timer(limits.sendTimeout, () => {
      this.sendTimer = null
      const stuck = outbox.batchesSent === sent && outbox.bytesQueued > 0
      if (stuck || (outbox.batchesSent < due && this.room.hinders))
        this.fail(new StorageError('TIMEOUT', `read no reply for ${limits.sendTimeout} ms`))
      else this.watchSending()
    })
  }
}
