import { assert } from '../base/errors.ts'

/** Who waits for room: told once, when it may try again. */
export interface Waiter {
  admitted(): void
}

/**
 * Bounds the payload bytes that all clients together may have in flight. Servers reserve before
 * they take a payload in (writes) or ask for one (reads) and give back when the reply has left the
 * socket; what goes on below a server needs no room of its own, so nothing can wait in a circle.
 */
export class Admission {
  private readonly bytesMax: number
  private bytes = 0
  /** Who waits, and for how many bytes, in order of arrival. */
  private readonly waiting = new Map<Waiter, number>()
  /** Whose turn it is: it alone passes those who wait, once. */
  private turn: Waiter | null = null
  private waking = false

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get bytesInFlight(): number {
    return this.bytes
  }

  /** Whether anybody waits for room but `one`, who may wait as well. */
  othersWait(one: unknown): boolean {
    return this.waiting.size > (this.waiting.has(one as Waiter) ? 1 : 0)
  }

  /**
   * Room for `bytes`, or false: then `waiter` is told when to try again. First come, first served:
   * a large request is not overtaken by small ones for ever.
   */
  reserve(bytes: number, waiter: Waiter): boolean {
    assert(bytes <= this.bytesMax, 'a single payload fits into the limit')
    const served = this.waiting.size === 0 || this.turn === waiter
    if (served && this.bytes + bytes <= this.bytesMax) {
      if (this.turn === waiter) this.turn = null
      this.bytes += bytes
      return true
    }
    this.waiting.set(waiter, bytes)
    return false
  }

  giveBack(bytes: number): void {
    this.bytes -= bytes
    assert(this.bytes >= 0, 'only what was reserved is given back')
    this.wake()
  }

  /** The waiter is gone: it is not told any more, and those behind it need not wait for it. */
  forget(waiter: Waiter): void {
    if (this.waiting.delete(waiter)) this.wake()
  }

  private wake(): void {
    // A waiter may give back at once; the loop that is under way goes on with what it gave.
    if (this.waking || this.waiting.size === 0) return
    this.waking = true
    for (const [waiter, bytes] of this.waiting) {
      if (this.bytes + bytes > this.bytesMax) break
      this.waiting.delete(waiter)
      this.turn = waiter
      waiter.admitted()
    }
    this.turn = null
    this.waking = false
  }
}
