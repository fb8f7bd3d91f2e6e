/** A queue that reuses its places: no allocation once it has grown to its traffic. */
export class Ring<T> {
  private places: (T | undefined)[] = new Array<T | undefined>(16)
  private head = 0
  private count = 0

  get length(): number {
    return this.count
  }

  push(item: T): void {
    if (this.count === this.places.length) this.grow()
    this.places[(this.head + this.count) & (this.places.length - 1)] = item
    this.count++
  }

  peek(): T | undefined {
    return this.places[this.head]
  }

  shift(): T | undefined {
    if (this.count === 0) return undefined
    const item = this.places[this.head]
    this.places[this.head] = undefined
    this.head = (this.head + 1) & (this.places.length - 1)
    this.count--
    return item
  }

  private grow(): void {
    const { places, head, count } = this
    const grown = new Array<T | undefined>(places.length * 2)
    for (let at = 0; at < count; at++) grown[at] = places[(head + at) & (places.length - 1)]
    this.places = grown
    this.head = 0
  }
}
