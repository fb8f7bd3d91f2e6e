import type { Pack } from './pack.ts'

/**
 * A set of packed states, as 63 bits of a hash of each, with what could still go wrong there. Where
 * more can, everything can come about that can with less.
 */
export class Hashes {
  private high = new Uint32Array(1 << 18)
  private low = new Uint32Array(1 << 18)
  private budgets = new Uint8Array(1 << 18)
  private count = 0

  /** Whether the state was not there before with as large a budget. */
  add(state: Pack, budget: number): boolean {
    if (this.count * 3 > this.high.length * 2) this.grow()
    const { words } = state
    const length = state.pad()
    let one = 0x9747b28c
    let other = 0x1b873593
    for (let at = 0; at < length; at++) {
      const word = words[at]!
      let mixed = Math.imul(word, 0xcc9e2d51)
      mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593)
      one ^= mixed
      one = (Math.imul((one << 13) | (one >>> 19), 5) + 0xe6546b64) | 0
      other = Math.imul(other ^ word, 0x9e3779b1)
      other ^= other >>> 15
    }
    // Zero means that a place is free.
    return this.insert(finish(one ^ state.at), finish(Math.imul(other, 0xc2b2ae3d)) | 1, budget)
  }

  private insert(high: number, low: number, budget: number): boolean {
    const mask = this.high.length - 1
    const [highs, lows] = [this.high, this.low]
    high >>>= 0
    low >>>= 0
    for (let at = (high ^ (low << 7)) & mask; ; at = (at + 1) & mask) {
      if (lows[at] === 0) {
        highs[at] = high
        lows[at] = low
        this.budgets[at] = budget
        this.count++
        return true
      }
      if (highs[at] === high && lows[at] === low) {
        if (this.budgets[at]! >= budget) return false
        this.budgets[at] = budget
        return true
      }
    }
  }

  private grow(): void {
    const { high, low, budgets } = this
    this.high = new Uint32Array(2 * high.length)
    this.low = new Uint32Array(2 * low.length)
    this.budgets = new Uint8Array(2 * low.length)
    this.count = 0
    for (let at = 0; at < high.length; at++)
      if (low[at] !== 0) this.insert(high[at]!, low[at]!, budgets[at]!)
  }
}

/** Every bit of the number has its share in every bit of the result. */
function finish(number: number): number {
  let mixed = Math.imul(number ^ (number >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}
