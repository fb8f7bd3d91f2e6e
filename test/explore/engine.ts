import { Hashes } from './hashes.ts'
import { Pack } from './pack.ts'

/** What is explored: a state that can be packed, and what may happen next. */
export interface Explored {
  /** Becomes what it is at the beginning. */
  reset(): void
  /** Writes the state to the pack, or reads it from there. */
  transfer(pack: Pack): void
  /**
   * Lists what may happen in this state: the list holds whenever the same state is read again. What
   * is wrong with a state in which nothing happens by itself, '' if nothing is.
   */
  list(): string
  /** How much was listed. */
  readonly listed: number
  /**
   * Lets one of what was listed happen, and says what it was. Where it may end in several ways
   * `choose(n)` gives a number from 0 to n - 1.
   */
  happen(move: number, choose: (count: number) => number): string
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

/** States that are to be looked at, packed one after the other, each behind its length. */
class Frontier {
  private readonly chunks: Uint8Array[] = []
  private readonly nodes: Uint32Array[] = []
  private end = chunkBytes
  private count = nodesPerChunk
  length = 0

  add(node: number, { bytes, at: length }: Pack): void {
    if (this.count === nodesPerChunk) {
      this.nodes.push(new Uint32Array(nodesPerChunk))
      this.count = 0
    }
    this.nodes.at(-1)![this.count++] = node
    if (this.end + length + 2 > chunkBytes) {
      this.chunks.push(new Uint8Array(chunkBytes))
      this.end = 0
    }
    const chunk = this.chunks.at(-1)!
    chunk[this.end] = length & 255
    chunk[this.end + 1] = length >> 8
    for (let at = 0, to = this.end + 2; at < length; at++, to++) chunk[to] = bytes[at]!
    this.end += length + 2
    this.length++
  }

  /** Calls back with every state, and where it is packed, as long as it wants to go on. */
  forEach(found: (node: number, bytes: Uint8Array, at: number) => boolean): void {
    let seen = 0
    for (let index = 0; index < this.chunks.length; index++) {
      const chunk = this.chunks[index]!
      let at = 0
      while (at + 2 < chunkBytes && seen < this.length) {
        const length = chunk[at]! | (chunk[at + 1]! << 8)
        // Nothing is behind the last state of a chunk.
        if (length === 0) break
        const node = this.nodes[Math.floor(seen / nodesPerChunk)]![seen % nodesPerChunk]!
        if (!found(node, chunk, at + 2)) return
        seen++
        at += length + 2
      }
      // Nobody asks for it again.
      this.chunks[index] = nothing
    }
  }
}

const chunkBytes = 1 << 22
const nodesPerChunk = 1 << 16
const nothing = new Uint8Array(0)

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
  private readonly odometer = new Odometer()
  private following = new Frontier()
  private violation: Outcome['violation'] = null
  private isGivenUp = false
  // Of the processor: other work on the machine does not count.
  private readonly began = process.cpuUsage()

  constructor(world: Explored, bounds: Bounds) {
    this.world = world
    this.bounds = bounds
  }

  run(): Outcome {
    this.world.reset()
    this.meet(0, 0)
    let depth = 0
    while (!this.isOver && this.following.length > 0) {
      const frontier = this.following
      this.following = new Frontier()
      if (process.env['EXPLORE_DEPTHS'] !== undefined)
        console.log(depth, frontier.length, this.tree.length, Math.round(this.seconds))
      frontier.forEach((node, bytes, at) => {
        this.expand(node, bytes, at)
        if ((node & 1023) === 0 || this.tree.length > this.bounds.statesMax) this.lookAtBounds()
        return !this.isOver
      })
      depth++
    }
    const { violation, seconds, isOver } = this
    return { states: this.tree.length, depth, seconds, complete: !isOver, violation }
  }

  private get seconds(): number {
    const { user, system } = process.cpuUsage(this.began)
    return (user + system) / 1e6
  }

  private get isOver(): boolean {
    return this.violation !== null || this.isGivenUp
  }

  private lookAtBounds(): void {
    const { statesMax, secondsMax } = this.bounds
    if (this.tree.length > statesMax || this.seconds > secondsMax) this.isGivenUp = true
  }

  /** Everything that may happen next in one state. */
  private expand(node: number, bytes: Uint8Array, at: number): void {
    const { world, pack, odometer } = this
    pack.beginReading(bytes, at)
    world.transfer(pack)
    const what = world.list()
    if (what !== '') {
      this.violation = { what, trace: this.trace(node) }
      return
    }
    let isRead = true
    let choice = 0
    for (let move = 0; move < world.listed; move++)
      do {
        if (!isRead) {
          pack.beginReading(bytes, at)
          world.transfer(pack)
        }
        isRead = false
        world.happen(move, odometer.choose)
        this.meet(node, choice++)
        if (this.isOver) return
      } while (odometer.next())
  }

  /** The world is in a state, perhaps a new one. */
  private meet(parent: number, choice: number): void {
    const { world, state } = this
    state.beginWriting()
    world.transfer(state)
    if (!this.hashes.add(state)) return
    const node = this.tree.add(parent, choice)
    this.following.add(node, state)
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
      let before = 0
      for (let move = 0; ; move++)
        do {
          pack.beginReading(copy, 0)
          world.transfer(pack)
          world.list()
          const what = world.happen(move, odometer.choose)
          if (before++ === choice) return { choices: [move, ...odometer.choices], what }
        } while (odometer.next())
    })
  }
}
