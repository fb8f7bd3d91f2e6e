import { assert } from './errors.ts'

/** Who wants a range for itself. The range does not change while it is wanted or held. */
export interface RangeHolder {
  /** Bytes, inclusive. */
  readonly rangeFrom: number
  /** Bytes, exclusive. */
  readonly rangeTo: number
  /** The range is the holder's now. Called only when `acquire` returned false. */
  granted(): void
}

/**
 * Ranges held by one holder each. Who comes later waits for everyone before it whose range
 * overlaps its own, holding or waiting: nobody is overtaken, so nobody starves.
 */
export class RangeLock {
  /** Held ranges, which never overlap, in their order: neighbours are all there is to compare. */
  private readonly held: RangeHolder[] = []
  private readonly waiting: RangeHolder[] = []
  private granting = false

  get heldCount(): number {
    return this.held.length
  }

  get waitingCount(): number {
    return this.waiting.length
  }

  /** Whether the range is the holder's at once; otherwise it is told by `granted`. */
  acquire(holder: RangeHolder): boolean {
    if (this.waiting.length === 0 || !overlapsAny(this.waiting, this.waiting.length, holder)) {
      const place = this.placeFor(holder)
      if (place !== -1) {
        this.insert(place, holder)
        return true
      }
    }
    this.waiting.push(holder)
    return false
  }

  /** Gives the range to whoever waits for it. */
  release(holder: RangeHolder): void {
    const { held } = this
    let place = this.firstEndingAfter(holder.rangeFrom)
    assert(held[place] === holder, 'a range is released by its holder')
    for (; place < held.length - 1; place++) held[place] = held[place + 1]!
    held.length--
    if (this.waiting.length > 0) this.grant()
  }

  /** Takes back a wish that was not granted yet. */
  withdraw(holder: RangeHolder): void {
    const place = this.waiting.indexOf(holder)
    assert(place !== -1, 'who withdraws is waiting')
    this.waiting.splice(place, 1)
    this.grant()
  }

  private grant(): void {
    // A holder that finishes at once releases in here: the loop below sees to whom that helps.
    if (this.granting) return
    this.granting = true
    for (let at = 0; at < this.waiting.length;) {
      const holder = this.waiting[at]!
      const place = overlapsAny(this.waiting, at, holder) ? -1 : this.placeFor(holder)
      if (place === -1) {
        at++
        continue
      }
      this.waiting.splice(at, 1)
      this.insert(place, holder)
      holder.granted()
      at = 0
    }
    this.granting = false
  }

  /** Where the range belongs among the held ones, -1 when it overlaps one of them. */
  private placeFor(holder: RangeHolder): number {
    const place = this.firstEndingAfter(holder.rangeFrom)
    const next = this.held[place]
    return next === undefined || next.rangeFrom >= holder.rangeTo ? place : -1
  }

  private firstEndingAfter(from: number): number {
    let low = 0
    let high = this.held.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.held[middle]!.rangeTo > from) high = middle
      else low = middle + 1
    }
    return low
  }

  private insert(place: number, holder: RangeHolder): void {
    const { held } = this
    held.push(holder)
    for (let at = held.length - 1; at > place; at--) held[at] = held[at - 1]!
    held[place] = holder
  }
}

function overlapsAny(holders: readonly RangeHolder[], count: number, one: RangeHolder): boolean {
  for (let at = 0; at < count; at++) {
    const other = holders[at]!
    if (one.rangeFrom < other.rangeTo && other.rangeFrom < one.rangeTo) return true
  }
  return false
}
