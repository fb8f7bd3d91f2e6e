import type { Clock, Timer } from '../base/clock.ts'
import { Line, type Waiting } from '../base/line.ts'
import { Operation } from '../device/request.ts'

/** How fast the clients of a pace may go together. */
export interface Rates {
  /** Null: any number. */
  readonly operationsPerSecond: number | null
  /** Operations that may come at once after a pause. */
  readonly operationsBurst: number
  /** Bytes read and written. Null: any number. */
  readonly bytesPerSecond: number | null
  readonly bytesBurst: number
}

/** Rates without limits. */
export const unlimited: Rates = {
  operationsPerSecond: null,
  operationsBurst: 1,
  bytesPerSecond: null,
  bytesBurst: 1,
}

/** Who asks for requests at a pace. */
export interface Paced {
  /** The request that had to wait has its turn, and is asked for again. */
  paced(): void
}

/** What of one kind may be had now. */
class Bucket {
  /** Per millisecond; 0 for any amount. */
  rate = 0
  burst = 1
  /** Below zero after a request that was larger than the burst. */
  private level = 0

  become(perSecond: number | null, burst: number): void {
    this.rate = (perSecond ?? 0) / 1000
    this.burst = burst
    this.level = burst
  }

  fill(ms: number): void {
    if (this.rate > 0) this.level = Math.min(this.burst, this.level + ms * this.rate)
  }

  /** A larger amount than the bucket holds takes a full one, and leaves it in debt. */
  has(amount: number): boolean {
    return this.rate === 0 || this.level >= Math.min(amount, this.burst)
  }

  take(amount: number): void {
    if (this.rate > 0) this.level -= amount
  }

  /** Milliseconds until it has the amount. */
  msUntil(amount: number): number {
    if (this.has(amount)) return 0
    return (Math.min(amount, this.burst) - this.level) / this.rate
  }
}

/** Requests that are let go on before others of the event loop have their turn. */
const atOnce = 16

/**
 * Bounds how many operations and bytes a second pass, for any number of connections together: two
 * buckets of tokens that fill with time. Who has to wait stands in a line, and takes nothing of
 * what is in memory meanwhile. One timer wakes the first in the line; it gets one request, and is
 * then behind the others.
 */
export class Pace {
  /** False while everything passes. */
  limited = false
  rates = unlimited
  private readonly clock: Clock
  private readonly operations = new Bucket()
  private readonly bytes = new Bucket()
  private filledAt: number
  private readonly line = new Line<Pacer>()
  private timer: Timer | null = null
  private serving = false
  /** Whether more are served in this turn's end. */
  private deferred = false
  /** Monotonic, milliseconds: when somebody was last told to wait. */
  private heldAt = -Infinity

  constructor(clock: Clock) {
    this.clock = clock
    this.filledAt = clock.now()
  }

  /** Has other rates from now on; debts are forgiven. The same rates change nothing. */
  become(rates: Rates): void {
    const names = Object.keys(rates) as (keyof Rates)[]
    if (names.every((name) => rates[name] === this.rates[name])) return
    this.rates = rates
    this.limited = rates.operationsPerSecond !== null || rates.bytesPerSecond !== null
    this.operations.become(rates.operationsPerSecond, rates.operationsBurst)
    this.bytes.become(rates.bytesPerSecond, rates.bytesBurst)
    this.filledAt = this.clock.now()
    this.schedule()
  }

  /** How many connections wait now. */
  get waiting(): number {
    return this.line.length
  }

  /** Whether anybody has had to wait in the last second. */
  get throttles(): boolean {
    return this.line.length > 0 || this.clock.now() - this.heldAt < 1000
  }

  /** @internal Takes what a request of `bytes` needs; false when it has to wait in the line. */
  take(pacer: Pacer, bytes: number): boolean {
    this.fill()
    if (this.line.length === 0 && this.has(bytes)) {
      this.spend(bytes)
      return true
    }
    this.heldAt = this.filledAt
    pacer.bytes = bytes
    if (!pacer.waits) {
      pacer.waits = true
      this.line.push(pacer)
      this.schedule()
    }
    return false
  }

  /** @internal The connection waits no longer. */
  leave(pacer: Pacer): void {
    pacer.waits = false
    this.line.remove(pacer)
    this.schedule()
  }

  private fill(): void {
    const now = this.clock.now()
    const ms = now - this.filledAt
    this.filledAt = now
    this.operations.fill(ms)
    this.bytes.fill(ms)
  }

  private has(bytes: number): boolean {
    return this.operations.has(1) && this.bytes.has(bytes)
  }

  private spend(bytes: number): void {
    this.operations.take(1)
    this.bytes.take(bytes)
  }

  /** Sets the one timer for the first in the line. */
  private schedule(): void {
    if (this.serving || this.deferred) return
    this.timer?.cancel()
    this.timer = null
    const { first } = this.line
    if (first === null) return
    this.fill()
    const ms = Math.max(this.operations.msUntil(1), this.bytes.msUntil(first.bytes))
    if (ms > 0) this.timer = this.clock.timer(Math.ceil(ms), this.serve)
    else {
      // A timer takes a millisecond at least, in which more than so few may pass.
      this.deferred = true
      this.clock.defer(this.serve)
    }
  }

  private readonly serve = (): void => {
    this.timer = null
    this.deferred = false
    this.serving = true
    this.fill()
    for (let count = 0; count < atOnce; count++) {
      const { first } = this.line
      if (first === null || !this.has(first.bytes)) break
      this.spend(first.bytes)
      this.line.remove(first)
      first.goesOn()
    }
    this.serving = false
    this.schedule()
  }
}

/** Asks for the requests of one connection at the pace of its export. */
export class Pacer implements Waiting<Pacer> {
  ahead: Pacer | null = null
  behind: Pacer | null = null
  /** @internal Bytes of the request that waits, and whether it stands in the line. */
  bytes = 0
  waits = false
  private readonly user: Paced
  private pace: Pace | null = null
  /** Whether the next request has what it needs, and only waits for something else. */
  private paid = false

  constructor(user: Paced) {
    this.user = user
  }

  /** Goes at this pace from now on; null: as fast as can be. What waited asks again. */
  follow(pace: Pace | null): void {
    if (pace === this.pace) return
    const waited = this.waits
    this.leave()
    this.pace = pace
    if (waited) this.user.paced()
  }

  /**
   * Whether the next request may be taken in. If not, the user is told when it may. What it needs
   * is taken once, until `used` says that it was taken in.
   */
  may(operation: Operation, length: number): boolean {
    const { pace } = this
    if (pace?.limited !== true || this.paid || !counts(operation)) return true
    this.paid = pace.take(this, operation <= Operation.write ? length : 0)
    return this.paid
  }

  used(): void {
    this.paid = false
  }

  /** The connection is gone, or asks for nothing any more. */
  leave(): void {
    if (this.waits) this.pace!.leave(this)
  }

  /** @internal */
  goesOn(): void {
    this.waits = false
    this.paid = true
    this.user.paced()
  }
}

/** Flushes and questions pass: they move no bytes, and who waits for one has waited already. */
function counts(operation: Operation): boolean {
  return operation !== Operation.flush && operation !== Operation.status
}
