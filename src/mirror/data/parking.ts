import type { Clock, Timer } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import { Operation, type Request } from '../../device/request.ts'

/** Bounds of `Parking`. */
export interface ParkingLimits {
  readonly requestsMax: number
  readonly bytesMax: number
  readonly waitMs: number
}

/** A request that waits. It fails at `deadline`, on the clock's scale. */
export interface Parked {
  readonly request: Request
  readonly deadline: number
}

/** Requests that cannot be served now, kept within bounds of time, number and bytes. */
export class Parking {
  private readonly clock: Clock
  private readonly limits: ParkingLimits
  private readonly path: string
  private entries: Parked[] = []
  private bytes = 0
  /** Number of changes and flushes among the entries; these keep the order they came in. */
  private ordered = 0
  private timer: Timer | null = null
  /** When the timer is due, on the clock's scale. */
  private due = 0
  /** Why requests wait, for the error when they waited too long. */
  private readonly why: () => string

  constructor(clock: Clock, limits: ParkingLimits, path: string, why: () => string) {
    this.why = why
    this.clock = clock
    this.limits = limits
    this.path = path
  }

  get length(): number {
    return this.entries.length
  }

  /** Whether a change or flush waits: those that come later must wait as well. */
  get holdsChanges(): boolean {
    return this.ordered > 0
  }

  /** Milliseconds since the oldest of them first began to wait; 0 when none waits. */
  get oldestMs(): number {
    const first = this.entries.reduce((due, { deadline }) => Math.min(due, deadline), Infinity)
    return Math.max(0, this.clock.now() - (first - this.limits.waitMs))
  }

  /** Keeps the request; fails it when there is no room, unless the bounds are `exceedable`. */
  add(
    request: Request,
    deadline = this.clock.now() + this.limits.waitMs,
    bounds: 'strict' | 'exceedable' = 'strict',
  ): void {
    const bytes = this.bytes + request.payloadBytes
    const full = this.entries.length >= this.limits.requestsMax || bytes > this.limits.bytesMax
    if (full && bounds === 'strict') {
      request.fail(
        new StorageError('UNAVAILABLE', `too many requests wait: ${this.why()}`, this.path),
      )
      return
    }
    this.bytes = bytes
    if (!isQuestion(request)) this.ordered++
    this.entries.push({ request, deadline })
    if (deadline < this.due) this.stopTime()
    this.keepTime()
  }

  /** Removes and returns all requests, in the order they came. */
  takeAll(): readonly Parked[] {
    const { entries } = this
    this.entries = []
    this.bytes = 0
    this.ordered = 0
    this.stopTime()
    return entries
  }

  /** Whether `which` is true of any parked request. */
  holds(which: (request: Request) => boolean): boolean {
    return this.entries.some(({ request }) => which(request))
  }

  /** Removes and returns the first request of which `which` is true; null when there is none. */
  takeFirst(which: (request: Request) => boolean): Parked | null {
    const at = this.entries.findIndex(({ request }) => which(request))
    const [entry] = at === -1 ? [] : this.entries.splice(at, 1)
    if (entry === undefined) return null
    this.forget(entry)
    if (this.entries.length === 0) this.stopTime()
    return entry
  }

  private forget({ request }: Parked): void {
    this.bytes -= request.payloadBytes
    if (!isQuestion(request)) this.ordered--
  }

  failAll(error: StorageError): void {
    for (const { request } of this.takeAll()) request.fail(error)
  }

  private keepTime(): void {
    if (this.timer !== null || this.entries.length === 0) return
    this.due = this.entries.reduce((due, { deadline }) => Math.min(due, deadline), Infinity)
    this.timer = this.clock.timer(Math.max(0, this.due - this.clock.now()), () => {
      this.timer = null
      this.expire()
      this.keepTime()
    })
  }

  private stopTime(): void {
    this.timer?.cancel()
    this.timer = null
  }

  private expire(): void {
    const now = this.clock.now()
    const late = this.entries.filter((entry) => entry.deadline <= now)
    this.entries = this.entries.filter((entry) => entry.deadline > now)
    for (const entry of late) this.forget(entry)
    for (const { request } of late)
      request.fail(new StorageError('UNAVAILABLE', `waited too long: ${this.why()}`, this.path))
  }
}

/** Whether the request changes nothing and waits for nothing: its order does not matter. */
export function isQuestion({ operation }: Request): boolean {
  return operation === Operation.read || operation === Operation.status
}
