import { assert } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'

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
  private readonly waiting = new Ring<Waiter>()
  private waking = false

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get bytesInFlight(): number {
    return this.bytes
  }

  /** Room for `bytes`, or false: `waiter` is told when to try again. First come, first served. */
  reserve(bytes: number, waiter: Waiter): boolean {
    assert(bytes <= this.bytesMax, 'a single payload fits into the limit')
    if (this.bytes + bytes <= this.bytesMax && (this.waking || this.waiting.length === 0)) {
      this.bytes += bytes
      return true
    }
    this.waiting.push(waiter)
    return false
  }

  giveBack(bytes: number): void {
    this.bytes -= bytes
    assert(this.bytes >= 0, 'only what was reserved is given back')
    if (this.waking) return
    this.waking = true
    // Each waiter may queue again at the end; those who came before this call get one chance each.
    for (let left = this.waiting.length; left > 0 && this.bytes < this.bytesMax; left--)
      this.waiting.shift()!.admitted()
    this.waking = false
  }
}
