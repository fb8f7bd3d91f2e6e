import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import { Block, type Slab } from '../../base/slab.ts'
import type { Device } from '../../device/device.ts'
import { extentZero } from '../../device/extents.ts'
import { Operation, Request, type Completer } from '../../device/request.ts'
import type { Header } from './header.ts'
import { CryptQueue, type Cryptor } from './queue.ts'
import type { SectorCipher } from './xts.ts'

/** What the data path of an unlocked device needs. */
interface SessionOptions {
  readonly cipher: SectorCipher
  readonly header: Header
  readonly slab: Slab
  readonly clock: Clock
  readonly path: string
}

/**
 * The data path of an encrypted device, from one reading of its header to the next. What it was
 * asked before it stopped ends by its own key, or fails: never by that of another header.
 */
export class CryptSession implements Cryptor {
  private readonly below: Device
  private readonly cipher: SectorCipher
  private readonly payload: number
  private readonly sectorBytes: number
  private readonly slab: Slab
  private readonly path: string
  private readonly queue: CryptQueue

  constructor(below: Device, { cipher, header, slab, clock, path }: SessionOptions) {
    this.below = below
    this.cipher = cipher
    this.payload = header.payload
    this.sectorBytes = header.sectorBytes
    this.slab = slab
    this.path = path
    this.queue = new CryptQueue(this, clock)
  }

  /** Fails the writes that were not encrypted yet. What is under way ends as it does below. */
  stop(): void {
    for (let write = this.queue.withdraw(); write !== undefined; write = this.queue.withdraw())
      write.fail(new StorageError('UNAVAILABLE', 'the device below has gone', this.path))
  }

  submit(request: Request): void {
    const { operation } = request
    if (operation === Operation.write) {
      this.queue.write(request)
      return
    }
    if (operation === Operation.read || operation === Operation.status) request.push(this.answered)
    if (operation !== Operation.flush) request.offset += this.payload
    this.below.submit(request)
  }

  /** Sends the ciphertext of a write down, in a block of our own: lent bytes are not written to. */
  encrypt(request: Request): void {
    const { length, offset, flags } = request
    const block = this.slab.take(length)
    const bytes = length === block.bytes.length ? block.bytes : block.bytes.subarray(0, length)
    request.copyTo(bytes)
    this.cipher.encrypt(bytes, offset)
    // It does not change any more: memory below may keep it instead of a copy.
    block.final = true
    const child = Request.take(Operation.write, offset + this.payload, length, flags, this.written)
    child.append(bytes, block)
    child.context = request
    this.below.submit(child)
  }

  /** Decrypts a read: where it is, if nobody else has the bytes, else in a block of our own. */
  decrypt(request: Request): void {
    const { cipher } = this
    const { offset, length } = request
    if (this.isOurs(request)) {
      let at = offset
      for (const segment of request.segments) {
        cipher.decrypt(segment, at)
        at += segment.length
      }
    } else {
      const block = this.slab.take(length)
      const bytes = length === block.bytes.length ? block.bytes : block.bytes.subarray(0, length)
      request.copyTo(bytes)
      request.dropSegments()
      cipher.decrypt(bytes, offset)
      request.append(bytes, block)
    }
    request.complete()
  }

  /** True if each segment is whole sectors in a block that this request alone holds. */
  private isOurs({ segments, leases }: Request): boolean {
    if (segments.length !== leases.length) return false
    for (let at = 0; at < segments.length; at++) {
      const { buffer, byteOffset, length } = segments[at]!
      const lease = leases[at]!
      if (!(lease instanceof Block) || !lease.isHeldOnce || lease.final) return false
      const { bytes } = lease
      const from = byteOffset - bytes.byteOffset
      const isWithin = buffer === bytes.buffer && from >= 0 && from + length <= bytes.length
      if (!isWithin || from % 4 !== 0 || length % this.sectorBytes !== 0) return false
    }
    return true
  }

  private readonly written: Completer = {
    completed: (child) => {
      const request = child.context as Request
      const { error, length } = child
      child.release()
      this.queue.written(length)
      if (error === null) request.complete()
      else request.fail(error)
    },
  }

  private readonly answered: Completer = {
    completed: (request) => {
      if (request.error === null && request.operation === Operation.read) {
        this.queue.read(request)
        return
      }
      // What is a hole below reads as what decrypting its zeroes comes to.
      const { flags } = request.extents
      for (let at = 0; at < flags.length; at++) flags[at]! &= ~extentZero
      request.complete()
    },
  }
}
