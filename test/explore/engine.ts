import { Frontier } from './frontier.ts'
import { Hashes } from './hashes.ts'
import { Odometer } from './odometer.ts'
import { Pack } from './pack.ts'
import { traceOf } from './trace.ts'

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
  /** How much may still go wrong: kept beside the packed state. */
  budget: number
  /** Nothing more may go wrong. Whether that is packed as another state. */
  spendBudget(): boolean
  /** Writes the state with other names of what is alike; false when there are no more. */
  writeRenamed(pack: Pack, renaming: number): boolean
  /** Whether names, orders and budgets that say nothing are left out. */
  reduces: boolean
}

export interface Outcome {
  readonly states: number
  readonly depth: number
  readonly seconds: number
  /** Whether there is no state that was not looked at. */
  readonly complete: boolean
  /** The first violation, and the shortest way to it. */
  readonly violation: Violation | null
}

export interface Violation {
  readonly what: string
  readonly trace: readonly Step[]
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
    const budget = bytes[at - 1]!
    pack.beginReading(bytes, at)
    world.transfer(pack)
    world.budget = budget
    const what = world.list()
    if (what !== '') {
      this.violate(node, what)
      return
    }
    let isRead = true
    let choice = 0
    for (let move = 0; move < world.listed; move++)
      do {
        if (!isRead) {
          pack.beginReading(bytes, at)
          world.transfer(pack)
          world.budget = budget
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
    const { budget } = world
    if (!this.hashes.add(state, budget)) return
    const node = this.tree.add(parent, choice)
    this.following.add(node, state, budget)
    const what = world.check()
    if (what !== '') this.violate(node, what)
    if (this.isOver || !world.spendBudget()) return
    // The same when nothing more goes wrong need not be looked at any more.
    state.beginWriting()
    world.transfer(state)
    this.hashes.add(state, budget)
  }

  private violate(node: number, what: string): void {
    this.violation = traceOf(this.world, this.tree.path(node), what)
  }
}
