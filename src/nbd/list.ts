import { StorageError } from '../base/errors.ts'
import type { Address } from '../net/address.ts'
import { Inbox } from '../net/inbox.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import { Outbox } from '../net/outbox.ts'
import type { TlsSide } from '../net/tls/side.ts'
import type { ClientWorld } from '../peer/link.ts'
import { ClientHandshake, type Conductor } from './handshake.ts'
import { encodeOption, Option, type ExportListing } from './options.ts'

type ListWorld = Omit<ClientWorld, 'random'>

/**
 * Asks the NBD server at the address for its exports. Rejects with a StorageError, at the latest
 * after `timeout` milliseconds for connecting and as many for the answer.
 */
export function listExports(
  world: ListWorld,
  address: Address,
  timeout: number,
  tls?: TlsSide,
): Promise<readonly ExportListing[]> {
  return new Promise((resolve, reject) => {
    const done = (result: readonly ExportListing[] | StorageError): void => {
      if (result instanceof StorageError) reject(result)
      else resolve(result)
    }
    world.network.connect(
      address,
      timeout,
      (connection) => new Lister(connection, world, { timeout, tls, done }),
      reject,
    )
  })
}

/** What is listed, for whom, and how long that may take. */
interface Listing {
  readonly timeout: number
  readonly tls: TlsSide | undefined
  readonly done: (result: readonly ExportListing[] | StorageError) => void
}

/** A connection that asks for the list and leaves. */
class Lister implements ConnectionHandler, Conductor {
  private readonly connection: Connection
  private readonly inbox: Inbox
  private readonly outbox: Outbox
  private readonly handshake: ClientHandshake
  private readonly tls: TlsSide | undefined
  private readonly done: (result: readonly ExportListing[] | StorageError) => void
  private readonly cancel: () => void

  /** Calls `done` with the list or why there is none; only the first call counts. */
  constructor(connection: Connection, { slab, clock }: ListWorld, { timeout, tls, done }: Listing) {
    this.tls = tls
    this.handshake = new ClientHandshake(this, 'list', tls === undefined ? 'clear' : 'sealed')
    this.connection = connection
    this.inbox = new Inbox(slab)
    this.outbox = new Outbox(connection, slab, clock)
    this.done = done
    const timer = clock.timer(timeout, () => {
      this.refused(new StorageError('TIMEOUT', `no list of exports within ${timeout} ms`))
    })
    this.cancel = () => timer.cancel()
  }

  landing(): Buffer {
    return this.inbox.landing()
  }

  landed(bytes: number): void {
    if (!this.inbox.landed(bytes)) return
    while (this.handshake.step(this.inbox));
    this.outbox.flush()
  }

  sent(): void {
    this.outbox.sent()
  }

  closed(reason: StorageError | null): void {
    this.cancel()
    this.inbox.close()
    this.outbox.close()
    this.done(reason ?? new StorageError('UNAVAILABLE', 'the server closed the connection'))
  }

  say(bytes: Buffer): void {
    const at = this.outbox.reserve(bytes.length)
    bytes.copy(this.outbox.bytes, at)
  }

  startTls(): void {
    this.connection.startTls!(this.tls!, () => undefined)
  }

  listed(exports: readonly ExportListing[]): void {
    this.done(exports)
    this.say(encodeOption(Option.abort, Buffer.alloc(0)))
    this.outbox.flush()
    this.connection.end()
  }

  agreed(): void {
    this.connection.destroy()
  }

  refused(error: StorageError): void {
    this.done(error)
    this.inbox.stall()
    this.connection.destroy()
  }
}
