import type { Clock } from '../../base/clock.ts'
import { longLoops, type LongLoop } from '../../base/long-loops.ts'
import { MiB } from '../../base/size.ts'
import { Ring } from '../../base/ring.ts'
import type { Request } from '../../device/request.ts'

/** Bytes that are encrypted or decrypted at once in each stretch of time; a millisecond's work. */
export const atOnceBytes = 1 * MiB
/** Milliseconds of such a stretch. */
const stretchMs = 4
/** Bytes of ciphertext on their way to the device below; further writes wait with their own. */
const underWayBytesMax = 32 * MiB

/** The work that a queue hands out: to encrypt a write, or to decrypt a read. */
export interface Cryptor {
  encrypt(request: Request): void
  decrypt(request: Request): void
}

/**
 * Paces the work of one device: what is more than a millisecond's at a time is done at the end of a
 * turn of the event loop, by turns with other long loops, so that clients of other devices go on.
 */
export class CryptQueue implements LongLoop {
  private readonly cryptor: Cryptor
  private readonly clock: Clock
  private readonly writes = new Ring<Request>()
  private readonly reads = new Ring<Request>()
  /** Monotonic, milliseconds: when the last piece of work that was done at once had its end. */
  private workedAt = -Infinity
  private bytes = 0
  private underWay = 0
  private added = false
  /** True if a write is next when both wait. */
  private writeNext = false

  constructor(cryptor: Cryptor, clock: Clock) {
    this.cryptor = cryptor
    this.clock = clock
  }

  /** Takes a write, to be encrypted now or soon. */
  write(request: Request): void {
    const { length } = request
    if (this.writes.length === 0 && this.hasRoom(length) && this.mayNow(length)) {
      this.underWay += length
      this.cryptor.encrypt(request)
      this.workedAt = this.clock.now()
    } else {
      this.writes.push(request)
      this.goOnLater()
    }
  }

  /** Takes a read that has its ciphertext, to be decrypted now or soon. */
  read(request: Request): void {
    if (this.reads.length === 0 && this.mayNow(request.length)) {
      this.cryptor.decrypt(request)
      this.workedAt = this.clock.now()
    } else {
      this.reads.push(request)
      this.goOnLater()
    }
  }

  /** The ciphertext of a write of `length` bytes is needed no more. */
  written(length: number): void {
    this.underWay -= length
    if (this.writes.length > 0) this.goOnLater()
  }

  /** Takes a write back that was not encrypted yet; undefined if there is none. */
  withdraw(): Request | undefined {
    return this.writes.shift()
  }

  goOn(): void {
    this.added = false
    const write = this.writes.peek()
    const mayWrite = write !== undefined && this.hasRoom(write.length)
    const mayRead = this.reads.length > 0
    this.writeNext = mayWrite && (this.writeNext || !mayRead)
    if (this.writeNext) {
      this.writeNext = false
      this.underWay += write!.length
      this.cryptor.encrypt(this.writes.shift()!)
    } else if (mayRead) {
      this.writeNext = true
      this.cryptor.decrypt(this.reads.shift()!)
    }
    this.goOnLater()
  }

  private goOnLater(): void {
    const write = this.writes.peek()
    const isWork = this.reads.length > 0 || (write !== undefined && this.hasRoom(write.length))
    if (!isWork || this.added) return
    this.added = true
    longLoops(this.clock).add(this)
  }

  private hasRoom(length: number): boolean {
    return this.underWay === 0 || this.underWay + length <= underWayBytesMax
  }

  private mayNow(length: number): boolean {
    // The work itself counts for no rest: where it is slow, all of a long request would be at once.
    if (this.clock.now() - this.workedAt >= stretchMs) this.bytes = 0
    if (this.bytes + length > atOnceBytes) return false
    this.bytes += length
    return true
  }
}
