import { assert } from './errors.ts'

/** A job that wants a range for itself. The range does not change while it is wanted or held. */
export interface RangeHolder {
  /** Bytes, inclusive. */
  readonly rangeFrom: number
  /** Bytes, exclusive. */
  readonly rangeTo: number
  /** Called when the holder gets the range, unless `acquire` returned true. */
  granted(): void
}

/**
 * Ranges held by one holder each. A holder waits for all earlier ones whose range overlaps its own,
 * whether they hold it or wait: none is overtaken, so none starves.
 */
export class RangeLock {
  /** Held ranges, which never overlap, in their order: neighbours are all there is to compare. */
  private readonly held: RangeHolder[] = []
  private readonly waiting: RangeHolder[] = []
  private granting = false

  /** Returns true if the holder has the range at once; otherwise `granted` is called later. */
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

  /** Frees the range and grants it to the holders that wait for it. */
  release(holder: RangeHolder): void {
    const { held } = this
    let place = this.firstEndingAfter(holder.rangeFrom)
    assert(held[place] === holder, 'a range is released by its holder')
    for (; place < held.length - 1; place++) held[place] = held[place + 1]!
    held.length--
    if (this.waiting.length > 0) this.grant()
  }

  private grant(): void {
    // A holder that finishes at once releases inside `granted`: the loop below serves the others.
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

  /** Returns the range's place among the held ones, -1 when it overlaps one of them. */
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
