import { Pack, packBytes } from './pack.ts'

/** Begins what `next` says when the state that it was asked about is wrong. */
export const violationMark = '?'

/** What is explored: a state that can be packed, and what may happen next. */
export interface Explored {
  /** Becomes what it is at the beginning. */
  reset(): void
  /** Writes the state to the pack, or reads it from there. */
  transfer(pack: Pack): void
  /**
   * Lets one thing happen, which one is decided by `choose`, and says what it was. '' when nothing
   * can happen. `choose(n)` gives a number from 0 to n - 1.
   */
  next(choose: (count: number) => number): string
  /** What is wrong with the state, '' when nothing is. */
  check(): string
}

export interface Outcome {
  readonly states: number
  readonly depth: number
  readonly seconds: number
  /** Whether there is no state that was not looked at. */
  readonly complete: boolean
  /** The first violation, and the shortest way to it. */
  readonly violation: { readonly what: string; readonly trace: readonly Step[] } | null
}

/** Something that happened: the numbers that were chosen for it, and what it was. */
export interface Step {
  readonly choices: readonly number[]
  readonly what: string
}

/** Bounds of an exploration. */
export interface Bounds {
  readonly statesMax: number
  readonly secondsMax: number
}

/** Each state's place in the search: from which one it came, by which choice. */
class Tree {
  private parents = new Uint32Array(1 << 16)
  private choices = new Uint16Array(1 << 16)
  length = 0

  add(parent: number, choice: number): number {
    if (this.length === this.parents.length) {
      const parents = new Uint32Array(2 * this.length)
      const choices = new Uint16Array(2 * this.length)
      parents.set(this.parents)
      choices.set(this.choices)
      this.parents = parents
      this.choices = choices
    }
    this.parents[this.length] = parent
    this.choices[this.length] = choice
    return this.length++
  }

  /** The choices that lead from the beginning to the state. */
  path(to: number): number[] {
    const path: number[] = []
    for (let at = to; at !== 0; at = this.parents[at]!) path.unshift(this.choices[at]!)
    return path
  }
}

/** A set of 64-bit hashes. */
class Hashes {
  private high = new Uint32Array(1 << 20)
  private low = new Uint32Array(1 << 20)
  private count = 0

  /** Whether it was not there before. */
  add(bytes: Uint8Array, length: number): boolean {
    if (this.count * 2 > this.high.length) this.grow()
    let one = 0x9747b28c
    let other = 0x1b873593
    for (let at = 0; at < length; at++) {
      const byte = bytes[at]!
      one = Math.imul(one ^ byte, 0x01000193)
      other = Math.imul(other ^ byte, 0x5bd1e995)
      other ^= other >>> 15
    }
    one = Math.imul(one ^ (one >>> 16), 0x85ebca6b)
    one ^= one >>> 13
    other = Math.imul(other ^ (other >>> 13), 0xc2b2ae35)
    // Zero means that a place is free.
    return this.insert((one ^ (one >>> 16)) >>> 0, ((other ^ (other >>> 16)) >>> 0) | 1)
  }

  private insert(high: number, low: number): boolean {
    const mask = this.high.length - 1
    for (let at = (high ^ (low << 7)) & mask; ; at = (at + 1) & mask) {
      if (this.low[at] === 0) {
        this.high[at] = high
        this.low[at] = low
        this.count++
        return true
      }
      if (this.high[at] === high && this.low[at] === low) return false
    }
  }

  private grow(): void {
    const { high, low } = this
    this.high = new Uint32Array(2 * high.length)
    this.low = new Uint32Array(2 * low.length)
    this.count = 0
    for (let at = 0; at < high.length; at++) if (low[at] !== 0) this.insert(high[at]!, low[at]!)
  }
}

/** States that are to be looked at, packed one after the other. */
class Frontier {
  private bytes = new Uint8Array(1 << 20)
  private end = 0
  readonly nodes: number[] = []
  readonly places: number[] = []

  add(node: number, from: Uint8Array, length: number): void {
    if (this.end + length > this.bytes.length) {
      const bytes = new Uint8Array(2 * this.bytes.length)
      bytes.set(this.bytes)
      this.bytes = bytes
    }
    this.bytes.set(from.subarray(0, length), this.end)
    this.nodes.push(node)
    this.places.push(this.end)
    this.end += length
  }

  read(at: number, pack: Pack): void {
    const from = this.places[at]!
    const to = this.places[at + 1] ?? this.end
    pack.beginReading(this.bytes, from, to - from)
  }
}

/** All combinations of choices, one after the other. */
class Odometer {
  private readonly digits: number[] = []
  private readonly bases: number[] = []
  private at = 0

  /** What was chosen last. */
  get choices(): readonly number[] {
    return [...this.digits]
  }

  readonly choose = (count: number): number => {
    if (this.at === this.digits.length) {
      this.digits.push(0)
      this.bases.push(count)
    }
    return this.digits[this.at++]!
  }

  /** Begins the next combination; false when there is none. */
  next(): boolean {
    this.at = 0
    while (this.digits.length > 0) {
      const last = this.digits.length - 1
      if (++this.digits[last]! < this.bases[last]!) return true
      this.digits.pop()
      this.bases.pop()
    }
    return false
  }
}

/** Looks at every state, those that need the fewest steps first. */
export function explore(world: Explored, bounds: Bounds): Outcome {
  const search = new Search(world, bounds)
  return search.run()
}

class Search {
  private readonly world: Explored
  private readonly bounds: Bounds
  private readonly pack = new Pack()
  private readonly state = new Pack()
  private readonly tree = new Tree()
  private readonly hashes = new Hashes()
  private frontier = new Frontier()
  private following = new Frontier()
  private violation: Outcome['violation'] = null

  constructor(world: Explored, bounds: Bounds) {
    this.world = world
    this.bounds = bounds
  }

  run(): Outcome {
    const { world, bounds, tree } = this
    // Of the processor: other work on the machine does not count.
    const began = process.cpuUsage()
    const seconds = (): number => {
      const { user, system } = process.cpuUsage(began)
      return (user + system) / 1e6
    }
    world.reset()
    this.meet(0, 0)
    let depth = 0
    let complete = false
    for (; !this.isOver(); depth++) {
      this.frontier = this.following
      this.following = new Frontier()
      const { nodes } = this.frontier
      complete = nodes.length === 0
      if (process.env['EXPLORE_DEPTHS'] !== undefined) console.log(depth, nodes.length, tree.length)
      if (complete) break
      for (let at = 0; at < nodes.length && !this.isOver(); at++) {
        this.expand(at)
        if (tree.length > bounds.statesMax || ((at & 1023) === 0 && seconds() > bounds.secondsMax))
          return {
            states: tree.length,
            depth,
            seconds: seconds(),
            complete: false,
            violation: null,
          }
      }
    }
    return { states: tree.length, depth, seconds: seconds(), complete, violation: this.violation }
  }

  /** Everything that may happen next in one state. */
  private expand(at: number): void {
    const { world, pack } = this
    const odometer = new Odometer()
    const node = this.frontier.nodes[at]!
    for (let choice = 0; ; choice++) {
      this.frontier.read(at, pack)
      world.transfer(pack)
      const label = world.next(odometer.choose)
      if (label.startsWith(violationMark))
        this.violation = { what: label.slice(1), trace: this.trace(node) }
      else if (label !== '') this.meet(node, choice)
      if (this.isOver() || !odometer.next()) return
    }
  }

  private isOver(): boolean {
    return this.violation !== null
  }

  /** The world is in a state, perhaps a new one. */
  private meet(parent: number, choice: number): void {
    const { world, state } = this
    state.beginWriting()
    world.transfer(state)
    if (state.at > packBytes) throw new Error('a state is too long')
    if (!this.hashes.add(state.bytes, state.at)) return
    const node = this.tree.add(parent, choice)
    this.following.add(node, state.bytes, state.at)
    const what = world.check()
    if (what !== '') this.violation = { what, trace: this.trace(node) }
  }

  /** What happened from the beginning to the state. */
  private trace(node: number): Step[] {
    const { world } = this
    world.reset()
    const pack = new Pack()
    return this.tree.path(node).map((choice) => {
      pack.beginWriting()
      world.transfer(pack)
      const copy = pack.bytes.slice(0, pack.at)
      const odometer = new Odometer()
      for (let at = 0; ; at++) {
        pack.beginReading(copy, 0, copy.length)
        world.transfer(pack)
        const what = world.next(odometer.choose)
        if (at === choice) return { choices: odometer.choices, what }
        odometer.next()
      }
    })
  }
}
