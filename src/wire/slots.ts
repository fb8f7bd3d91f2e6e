import type { StorageError } from '../base/errors.ts'
import type { Request } from '../device/request.ts'
import { slotsMax } from './session.ts'

/** Slot of questions that are no requests (stamp, claim). */
export const controlSlot = 0xffff

/** What a client knows of a slot's request. */
export const SlotState = {
  free: 0,
  /** To be sent, or sent again. */
  ready: 1,
  sent: 2,
  /** Answered before the socket let go of its payload. */
  early: 3,
} as const

/**
 * A client's requests by slot: parallel arrays, made once. A request's id on the wire is its slot
 * and the slot's sequence number, which rises with every use.
 */
export class Slots<Connection> {
  readonly requests: (Request | null)[] = new Array<Request | null>(slotsMax).fill(null)
  readonly states = new Uint8Array(slotsMax)
  readonly sequences = new Uint32Array(slotsMax)
  /** When it was submitted, relative to the others. */
  readonly orders = new Float64Array(slotsMax)
  /** The flush of the outbox after which the socket holds the payload no more. */
  readonly batches = new Float64Array(slotsMax)
  /** When it was sent: monotonic, milliseconds; set only if there is a request timeout. */
  readonly sentAt = new Float64Array(slotsMax)
  /** How often a damaged payload was sent again. */
  readonly retries = new Uint8Array(slotsMax)
  /** The connection that it was sent on. */
  readonly connections: (Connection | null)[] = new Array<Connection | null>(slotsMax).fill(null)
  /** The answer of an early slot. */
  readonly answers: (StorageError | null)[] = new Array<StorageError | null>(slotsMax).fill(null)
  private readonly free = new Uint16Array(slotsMax)
  private freeCount = slotsMax
  private order = 0

  constructor() {
    for (let slot = 0; slot < slotsMax; slot++) this.free[slot] = slotsMax - 1 - slot
  }

  get used(): number {
    return slotsMax - this.freeCount
  }

  /** A slot for the request, in state `ready`; -1 when all are used. */
  take(request: Request): number {
    if (this.freeCount === 0) return -1
    const slot = this.free[--this.freeCount]!
    this.requests[slot] = request
    this.states[slot] = SlotState.ready
    this.sequences[slot]!++
    this.orders[slot] = this.order++
    this.retries[slot] = 0
    return slot
  }

  /** Frees the slot and returns its request. */
  giveBack(slot: number): Request {
    const request = this.requests[slot]!
    this.requests[slot] = null
    this.connections[slot] = null
    this.answers[slot] = null
    this.states[slot] = SlotState.free
    this.free[this.freeCount++] = slot
    return request
  }

  /** The slots in use, in the order in which their requests were submitted. */
  inOrder(): number[] {
    const slots: number[] = []
    for (let slot = 0; slot < slotsMax; slot++)
      if (this.states[slot] !== SlotState.free) slots.push(slot)
    return slots.sort((a, b) => this.orders[a]! - this.orders[b]!)
  }
}
