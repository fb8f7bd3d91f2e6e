import type { Block, Slab } from '../base/slab.ts'
import { assert } from '../base/errors.ts'
import { KiB, MiB } from '../base/size.ts'
import type { Request } from '../device/request.ts'

/** Bytes of staging for a connection that sends little, and for one that has filled its staging. */
const stagingBytesIdle = 16 * KiB
const stagingBytesBusy = 256 * KiB

/**
 * Bytes that the busy stagings of all connections share: a peer that has filled its staging once
 * may go idle or be hostile, and there may be thousands of them.
 */
const stagingBytesShared = 16 * MiB

/** How many connections have a staging from a slab. */
const stagingsOf = new WeakMap<Slab, number>()

function countStagings(slab: Slab, by: 1 | -1): void {
  stagingsOf.set(slab, (stagingsOf.get(slab) ?? 0) + by)
}

/** The most that `need` takes: headers, options, and payloads not worth landing by themselves. */
export const needBytesMax = 12 * KiB

/**
 * Payloads up to this many bytes are better waited for with `need`: landing by itself costs a read
 * of its own for each, more than moving what is left at the end of a staging block.
 */
export const stagedPayloadMax = 8 * KiB

/**
 * After a payload that landed by itself, what comes next is read in pieces of this size: a header,
 * and little of the payload that follows it, which then lands where it stays in one piece.
 */
const headBytes = 512

/** The first bytes of a large payload move to where the rest lands if they are this few at most. */
const movedBytesMax = 16 * KiB

/**
 * Bytes of stagings that connections have left behind because requests still hold payloads there.
 * A waiting request may hold one byte of a staging: beyond this, payloads get blocks of their own.
 */
const stagingsLeftMax = 16 * MiB

/** Bytes of the buffer where bytes land while the parser is stalled: a stall copies no more. */
const spillBytes = 512

/**
 * Received bytes between the socket and the parser of a protocol. They land in a staging block,
 * where headers and small payloads are read in place; a large payload lands in a block of its own.
 * Payloads are lent to requests as segments: nothing is copied, but for what is left over when a
 * staging block is full, and for the first bytes of a large payload that came with its header.
 *
 * The parser runs within `landed` only. If it has to wait for anything else (room, a device, an old
 * session) it stalls, pauses the connection, and after `unstall` may run at any time.
 *
 *      staging.bytes   | read already | available       | room            |
 *                      0              at                end               length
 */
export class Inbox {
  private readonly slab: Slab
  private staging: Block
  /** Where the next unread byte stands in `bytes`; read fields here, then `consume`. */
  at = 0
  private end = 0
  /** The payload that lands by itself: its block, where the next byte lands, and where it ends. */
  private payload: Block | null = null
  private payloadAt = 0
  private payloadEnd = 0
  private skipping = 0
  private stalled = false
  /** Whether the next bytes are likely to be the head of another large payload. */
  private headNext = false
  private spill: Buffer | null = null
  private spilling = false
  private offered = 0
  /** True when the last bytes to land took all the room there was: more may be there already. */
  filled = false

  constructor(slab: Slab) {
    this.slab = slab
    countStagings(slab, 1)
    this.staging = slab.take(stagingBytesIdle)
  }

  get bytes(): Buffer {
    return this.staging.bytes
  }

  get available(): number {
    return this.end - this.at
  }

  /** True while a payload taken by `takePayload` has yet to land in full. */
  get payloadLanding(): boolean {
    return this.payload !== null
  }

  /** True while bytes of a payload, or bytes that are to be dropped, have yet to land. */
  get awaiting(): boolean {
    return this.payload !== null || this.skipping > 0
  }

  /** For `ConnectionHandler.landing`. */
  landing(): Buffer {
    // While stalled the answer would not stay true: the parser may move on before bytes land.
    this.spilling = this.stalled || (this.payload === null && this.room === 0)
    if (!this.spilling) {
      const place = this.place()
      this.offered = place.length
      return place
    }
    this.spill ??= Buffer.allocUnsafeSlow(spillBytes)
    return this.spill
  }

  /** For `ConnectionHandler.landed`. Returns whether the parser should run. */
  landed(bytes: number): boolean {
    this.filled = !this.spilling && bytes === this.offered
    if (this.spilling) {
      const spill = this.spill!
      for (let at = 0; at < bytes;) {
        if (this.payload === null && this.room === 0) this.renew(bytes - at)
        const copied = spill.copy(this.place(), 0, at, bytes)
        this.advance(copied)
        at += copied
      }
    } else this.advance(bytes)
    return !this.stalled && this.payload === null && this.skip(0)
  }

  /** The parser cannot go on: until `unstall`, `landed` returns false and bytes land elsewhere. */
  stall(): void {
    this.stalled = true
  }

  /** The parser may go on; the caller runs it. */
  unstall(): void {
    this.stalled = false
  }

  /**
   * Returns whether `bytes` unread bytes stand in one piece at `at`. If not, makes room for them:
   * the parser is called again when more has landed.
   */
  need(bytes: number): boolean {
    assert(bytes <= needBytesMax, 'only small things are staged')
    if (this.end - this.at >= bytes) return true
    if (this.at === this.end) this.rewind()
    if (this.staging.bytes.length - this.at < bytes) this.renew(bytes)
    return false
  }

  /** Steps over bytes that were read in place. */
  consume(bytes: number): void {
    this.at += bytes
    assert(this.at <= this.end, 'only what is available is consumed')
  }

  /**
   * Appends the next `length` bytes to the request's segments. False when some of them have yet to
   * land: the request may be submitted after the `landed` that returns true.
   */
  takePayload(request: Request, length: number): boolean {
    const staged = Math.min(length, this.end - this.at)
    const moved = length > stagedPayloadMax && staged < length && staged <= movedBytesMax
    if (moved || (staged > 0 && this.slab.bytesLeft > stagingsLeftMax))
      return this.land(request, length, staged)
    if (staged > 0) {
      this.staging.retain()
      request.append(this.staging.bytes.subarray(this.at, this.at + staged), this.staging)
      this.at += staged
    }
    const rest = length - staged
    if (rest === 0) return true
    this.payload = this.slab.take(rest)
    this.payloadAt = 0
    this.payloadEnd = rest
    const { bytes } = this.payload
    // Only the request holds the block: with the request, the place where bytes land is gone too.
    request.append(rest === bytes.length ? bytes : bytes.subarray(0, rest), this.payload)
    return false
  }

  /** `takePayload` into a block of its own, to which the `staged` bytes move. */
  private land(request: Request, length: number, staged: number): boolean {
    const payload = this.slab.take(length)
    const { bytes } = payload
    this.staging.bytes.copy(bytes, 0, this.at, this.at + staged)
    this.at += staged
    payload.final = true
    request.append(length === bytes.length ? bytes : bytes.subarray(0, length), payload)
    if (staged === length) return true
    this.payload = payload
    this.payloadAt = staged
    this.payloadEnd = length
    return false
  }

  /** Drops the next `length` bytes. False when some of them have yet to land. */
  skip(length: number): boolean {
    this.skipping += length
    const dropped = Math.min(this.skipping, this.end - this.at)
    this.skipping -= dropped
    this.at += dropped
    if (this.at === this.end) this.rewind()
    return this.skipping === 0
  }

  /** Lets go of the staging once nothing lands. A request that was landing stays its owner's. */
  close(): void {
    this.payload = null
    countStagings(this.slab, -1)
    this.slab.leave(this.staging)
  }

  private get room(): number {
    return this.staging.bytes.length - this.end
  }

  private place(): Buffer {
    if (this.payload !== null) return this.payload.bytes.subarray(this.payloadAt, this.payloadEnd)
    const { bytes } = this.staging
    if (this.headNext) return bytes.subarray(this.end, this.end + headBytes)
    return this.end === 0 ? bytes : bytes.subarray(this.end)
  }

  private advance(bytes: number): void {
    if (this.payload === null) {
      this.end += bytes
      this.headNext = false
      return
    }
    this.payloadAt += bytes
    if (this.payloadAt < this.payloadEnd) return
    this.payload = null
    this.headNext = true
  }

  /**
   * Starts over at the front of the staging, if no request holds bytes of it. One that is large and
   * was hardly used makes way for a small one.
   */
  private rewind(): void {
    if (this.staging.holds > 1) return
    const large = this.staging.bytes.length > stagingBytesIdle
    if (large && this.end <= stagingBytesIdle / 4) {
      this.staging.release()
      this.staging = this.slab.take(stagingBytesIdle)
    }
    this.at = 0
    this.end = 0
  }

  /** Goes on in a new staging with room for `bytes` more than what is unread, which moves there. */
  private renew(bytes: number): void {
    const { staging, at, end } = this
    const left = end - at
    const filled = end === staging.bytes.length
    const next = this.slab.take(
      Math.max(left + bytes, filled ? busyBytes(this.slab) : stagingBytesIdle),
    )
    staging.bytes.copy(next.bytes, 0, at, end)
    this.slab.leave(staging)
    this.staging = next
    this.at = 0
    this.end = left
  }
}

/** Bytes of the next staging of a connection that filled its last: fewer, the more connections. */
function busyBytes(slab: Slab): number {
  const share = 2 ** Math.floor(Math.log2(stagingBytesShared / stagingsOf.get(slab)!))
  return Math.min(stagingBytesBusy, Math.max(stagingBytesIdle, share))
}
