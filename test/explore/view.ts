/**
 * In which order legs and extents are packed. Which leg is called a and which b says nothing, nor
 * does which extent is the first: states that differ in such names alone are one.
 */
export class View {
  /** Which leg and which extent is packed at each place, and the place of each. */
  readonly legs: number[]
  readonly extents: number[]
  readonly placeOfLeg: number[]
  readonly placeOfExtent: number[]
  /** Of each set of legs, or of extents, as bits: the same as bits of places. */
  readonly legSets: number[] = []
  readonly extentSets: number[] = []

  private isUsual = false

  constructor(legs: number, extents: number) {
    this.legs = Array.from({ length: legs }, (_, at) => at)
    this.extents = Array.from({ length: extents }, (_, at) => at)
    this.placeOfLeg = [...this.legs]
    this.placeOfExtent = [...this.extents]
    this.note()
  }

  /** Those with the lowest keys come first; of equal ones the first. */
  sortLegs(keys: readonly number[]): void {
    sort(this.legs, keys)
    this.note()
  }

  sortExtents(keys: readonly number[]): void {
    sort(this.extents, keys)
    this.note()
  }

  /** As they are called. */
  setUsual(): void {
    if (!this.isUsual) this.setOrder(0)
    this.isUsual = true
  }

  /** Another order for each number; whether there is one for this. */
  setOrder(number: number): boolean {
    const orders = ordersOf(this.legs.length).length
    const ofExtents = ordersOf(this.extents.length)[Math.floor(number / orders)]
    if (ofExtents === undefined) return false
    for (const [at, leg] of ordersOf(this.legs.length)[number % orders]!.entries())
      this.legs[at] = leg
    for (const [at, extent] of ofExtents.entries()) this.extents[at] = extent
    this.note()
    return true
  }

  private note(): void {
    this.isUsual = false
    for (let at = 0; at < this.legs.length; at++) this.placeOfLeg[this.legs[at]!] = at
    for (let at = 0; at < this.extents.length; at++) this.placeOfExtent[this.extents[at]!] = at
    fillSets(this.legSets, this.placeOfLeg)
    fillSets(this.extentSets, this.placeOfExtent)
  }
}

const known: (readonly (readonly number[])[])[] = []

/** Every order of so many, the usual one first. */
function ordersOf(count: number): readonly (readonly number[])[] {
  return (known[count] ??= makeOrders(count))
}

function makeOrders(count: number): readonly (readonly number[])[] {
  if (count === 0) return [[]]
  return ordersOf(count - 1).flatMap((order) =>
    Array.from({ length: count }, (_, at) => order.toSpliced(count - 1 - at, 0, count - 1)),
  )
}

function sort(order: number[], keys: readonly number[]): void {
  for (let at = 0; at < order.length; at++) order[at] = at
  for (let to = 1; to < order.length; to++)
    for (let at = to; at > 0 && keys[order[at]!]! < keys[order[at - 1]!]!; at--) {
      const one = order[at]!
      order[at] = order[at - 1]!
      order[at - 1] = one
    }
}

function fillSets(sets: number[], places: readonly number[]): void {
  const count = 1 << places.length
  for (let bits = 0; bits < count; bits++) {
    let placed = 0
    for (let at = 0; at < places.length; at++)
      if ((bits & (1 << at)) !== 0) placed |= 1 << places[at]!
    sets[bits] = placed
  }
}
