import type { Clock } from '../base/clock.ts'
import { empty } from '../base/empty.ts'
import { assert } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'
import { KiB, MiB } from '../base/size.ts'
import type { Block, Lease, Slab } from '../base/slab.ts'
import type { Request } from '../device/request.ts'
import type { Connection } from './network.ts'

const stagingBytes = 64 * KiB

/** Payloads up to this many bytes are copied behind their header: cheaper than a list entry. */
const copyBytesMax = 16 * KiB

/**
 * Bytes of payload that may wait before it is better to make no more: by the time their turn comes
 * they have left the processor's caches, and have to be fetched again.
 */
const payloadBytesMax = 4 * MiB

const nothing = Buffer.alloc(0)

/** The most bytes that `reserve` can be asked for. */
export const reserveBytesMax = 16 * KiB

/**
 * What one connection is about to send. Headers and small payloads are written into a staging
 * block, large payloads are referred to; `flush` hands everything to the socket in one call, and so
 * does a payload that makes a batch. Its bytes are held until the socket has let go of them.
 */
export class Outbox {
  private readonly connection: Connection
  private readonly slab: Slab
  private readonly clock: Clock
  private staging: Block | null = null
  private from = 0
  private at = 0
  private readonly views: Buffer[] = []
  /** The last run of staged bytes, its block and where it starts: the next is often the same. */
  private view: Buffer = nothing
  private viewOf: Block | null = null
  private viewFrom = 0
  /** Holds of what was handed to the socket and what is about to be, oldest first. */
  private readonly leases = new Ring<Lease>()
  private leasesPending = 0
  private readonly batches = new Ring<number>()
  private scheduled = false
  private gathering = false
  private closed = false
  /** Bytes that wait to be flushed, or that the socket has not let go of. */
  bytesQueued = 0
  /** The part of `bytesQueued` that `payload` was given. */
  payloadQueued = 0
  private readonly batchBytes = new Ring<number>()
  private bytesPending = 0
  private readonly batchPayload = new Ring<number>()
  private payloadPending = 0
  /** How many batches the socket was handed, and how many of them it has let go of. */
  batchesFlushed = 0
  batchesSent = 0

  constructor(connection: Connection, slab: Slab, clock: Clock) {
    this.connection = connection
    this.slab = slab
    this.clock = clock
  }

  /** Where to write: `bytes` from the index that `reserve` returned. */
  get bytes(): Buffer {
    return this.staging!.bytes
  }

  /** True while so much payload waits that more of it is better made later. */
  get full(): boolean {
    return this.payloadQueued > payloadBytesMax
  }

  /** Room for `length` bytes in one piece, which the caller fills at once. Returns their index. */
  reserve(length: number): number {
    assert(length <= reserveBytesMax, 'only small things are staged')
    if (this.staging === null || this.staging.bytes.length - this.at < length) this.renew()
    const index = this.at
    this.at += length
    this.count(length)
    return index
  }

  /** Queues a read's segments: copied when small, otherwise lent, with holds of their own. */
  payload(request: Request): void {
    const { segments, length } = request
    this.payloadPending += length
    this.payloadQueued += length
    if (length <= copyBytesMax) {
      let index = this.reserve(length)
      for (const segment of segments) {
        this.bytes.set(segment, index)
        index += segment.length
      }
      return
    }
    this.cut()
    for (const segment of segments) this.views.push(segment)
    for (const lease of request.leases) {
      lease.retain()
      this.hold(lease)
    }
    this.count(length)
    if (this.bytesPending >= this.connection.batchBytes) this.handOver()
  }

  /** Queues bytes without copying them; they must never change. */
  lend(bytes: Buffer): void {
    this.cut()
    this.views.push(bytes)
    this.count(bytes.length)
  }

  /** Schedules nothing until `flush` or `leave`, one of which the caller calls in the same turn. */
  gather(): void {
    this.gathering = true
  }

  /** Ends `gather`: what is queued leaves now or, if more is likely, at the end of the turn. */
  leave(when: 'now' | 'later'): void {
    this.gathering = false
    if (when === 'now') this.flush()
    else if (this.bytesPending > 0) this.schedule()
  }

  /** Flushes at the end of this turn of the loop, together with whatever else is added by then. */
  schedule(): void {
    if (this.scheduled || this.gathering) return
    this.scheduled = true
    this.clock.defer(this.flush)
  }

  readonly flush = (): void => {
    this.scheduled = false
    this.gathering = false
    this.handOver()
  }

  /** For `ConnectionHandler.sent`. Returns how many bytes of payload have left. */
  sent(): number {
    this.batchesSent++
    this.bytesQueued -= this.batchBytes.shift()!
    for (let left = this.batches.shift()!; left > 0; left--) this.leases.shift()!.release()
    if (this.bytesQueued === 0) {
      this.staging?.release()
      this.staging = null
    }
    const payload = this.batchPayload.shift()!
    this.payloadQueued -= payload
    return payload
  }

  /** For `ConnectionHandler.closed`: lets go of all bytes; what is queued later is dropped. */
  close(): void {
    this.closed = true
    this.drop()
  }

  private handOver(): void {
    if (this.closed) {
      this.drop()
      return
    }
    this.cut()
    if (this.views.length === 0) return
    this.batches.push(this.leasesPending)
    this.batchBytes.push(this.bytesPending)
    this.batchPayload.push(this.payloadPending)
    this.leasesPending = 0
    this.bytesPending = 0
    this.payloadPending = 0
    this.batchesFlushed++
    this.connection.send(this.views)
    empty(this.views)
  }

  private drop(): void {
    for (let left = this.leases.length; left > 0; left--) this.leases.shift()!.release()
    this.staging?.release()
    this.staging = null
    this.views.length = 0
  }

  private count(bytes: number): void {
    this.bytesQueued += bytes
    this.bytesPending += bytes
  }

  private hold(lease: Lease): void {
    this.leases.push(lease)
    this.leasesPending++
  }

  /** Ends the run of staged bytes: what follows is sent from elsewhere, or not yet. */
  private cut(): void {
    const { staging, from, at } = this
    if (staging === null || at === from) return
    if (this.viewOf !== staging || this.viewFrom !== from || this.view.length !== at - from) {
      this.view = staging.bytes.subarray(from, at)
      this.viewOf = staging
      this.viewFrom = from
    }
    this.views.push(this.view)
    staging.retain()
    this.hold(staging)
    this.from = at
  }

  private renew(): void {
    this.cut()
    this.staging?.release()
    this.staging = this.slab.take(stagingBytes)
    this.from = 0
    this.at = 0
  }
}
