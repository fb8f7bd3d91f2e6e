import type { Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Address } from '../net/address.ts'
import type { Connection, ConnectionHandler } from '../net/network.ts'
import type { TlsSide } from '../net/tls/side.ts'
import type { ClientContext } from './dialer.ts'
import {
  decodeListing,
  decodePreface,
  decodeWelcome,
  encodeHello,
  listingBytesMax,
  prefaceBytes,
  Purpose,
  version,
  type Listing,
} from './hello.ts'
import { codeOf } from './status.ts'

/**
 * Asks the target at `address` for its exports. Rejects with a StorageError, at the latest after
 * `timeout` milliseconds for connecting and as many for the answer.
 */
export function listExports(
  context: Pick<ClientContext, 'network' | 'clock'>,
  address: Address,
  timeout: number,
  tls?: TlsSide,
): Promise<readonly Listing[]> {
  return new Promise((resolve, reject) => {
    context.network.connect(
      address,
      timeout,
      (connection) => {
        const reader = new ListingReader(connection, (result) => {
          timer.cancel()
          if (result instanceof StorageError) reject(result)
          else resolve(result)
        })
        const timer: Timer = context.clock.timer(timeout, () => reader.fail('TIMEOUT', 'no answer'))
        if (tls !== undefined) connection.startTls!(tls, () => undefined)
        reader.ask()
        return reader
      },
      reject,
    )
  })
}

class ListingReader implements ConnectionHandler {
  private readonly connection: Connection
  private readonly done: (result: readonly Listing[] | StorageError) => void
  private bytes = Buffer.alloc(prefaceBytes)
  private at = 0
  private over = false

  constructor(connection: Connection, done: (result: readonly Listing[] | StorageError) => void) {
    this.connection = connection
    this.done = done
  }

  ask(): void {
    const hello = encodeHello({
      purpose: Purpose.list,
      index: 0,
      features: 0,
      client: '0'.repeat(32),
      epoch: 0,
      claim: 0,
      depth: 0,
      name: '',
    })
    this.connection.send([hello])
  }

  fail(code: 'PROTOCOL' | 'TIMEOUT' | 'UNAVAILABLE', message: string): void {
    this.finish(new StorageError(code, `${this.connection.peer}: ${message}`))
  }

  landing(): Buffer {
    return this.over ? Buffer.alloc(1) : this.bytes.subarray(this.at)
  }

  landed(bytes: number): void {
    this.at += bytes
    if (this.over || this.at < this.bytes.length) return
    if (this.bytes.length === prefaceBytes) this.grow()
    else this.read()
  }

  sent(): void {
    // The hello is not used again.
  }

  closed(reason: StorageError | null): void {
    this.fail('UNAVAILABLE', reason?.message ?? 'closed before it answered')
  }

  /** The preface is here: it says how much follows. */
  private grow(): void {
    const preface = decodePreface(this.bytes, 0)
    if (typeof preface === 'string' || preface.length > listingBytesMax || preface.length === 0)
      this.fail('PROTOCOL', 'it does not speak DST/1')
    else if (preface.versionMin !== version)
      this.fail('PROTOCOL', `it speaks version ${preface.versionMin}, not ${version}`)
    else this.bytes = Buffer.concat([this.bytes], prefaceBytes + preface.length)
  }

  private read(): void {
    const listing = decodeListing(this.bytes)
    if (typeof listing !== 'string') {
      this.finish(listing)
      return
    }
    // A refusal comes as a welcome.
    const welcome = decodeWelcome(this.bytes, 0, this.bytes.length)
    if (typeof welcome === 'string' || welcome.status === 0)
      this.fail('PROTOCOL', `its listing is wrong: ${listing}`)
    else this.finish(new StorageError(codeOf(welcome.status), welcome.text))
  }

  private finish(result: readonly Listing[] | StorageError): void {
    if (this.over) return
    this.over = true
    this.connection.destroy()
    this.done(result)
  }
}
