import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MiB } from '../../src/base/size.ts'
import { diceOf, stepMsMax, Trial, type Surface } from './trial.ts'

/** What was found wrong, and how it is repeated. */
export interface Found {
  readonly surface: string
  readonly number: number
  readonly what: string
}

/** What was done to a surface. */
export interface Tally {
  readonly surface: string
  cases: number
  connections: number
  bytes: number
  /** Milliseconds. */
  spent: number
  /** Milliseconds of the longest step, of those that are no matter of the machine. */
  longest: number
}

export interface Plan {
  readonly seed: number
  /** When to stop: whichever comes first. */
  readonly seconds?: number
  readonly bytes?: number
  /** Cases of each surface. */
  readonly cases?: number
  /** Stops after so many findings. */
  readonly findings?: number
  /** Told of each finding at once. */
  readonly onFound?: (found: Found) => void
}

/** Milliseconds for which one surface goes on before the next has its turn. */
const turnMs = 50
/** How often a case with a long step is carried out alone: a busy machine makes any step long. */
const replays = 3
/** Findings after which a run stops: more of them say no more. */
const findingsMax = 20
/** Milliseconds between two looks at the memory, and until the first. */
const memoryInterval = 10_000
/** Bytes by which memory may grow while nothing is kept. */
const growthMax = 64 * MiB

/** Carries out cases of surfaces, each a share of the time, until the plan is at its end. */
export class Engine {
  readonly found: Found[] = []
  readonly tallies: readonly Tally[]
  private readonly surfaces: readonly Surface[]
  private readonly plan: Plan
  private readonly memory = new Memory()
  private bytes = 0
  private astray: unknown = null

  constructor(surfaces: readonly Surface[], plan: Plan) {
    this.surfaces = surfaces
    this.plan = plan
    this.tallies = surfaces.map(({ name }) => newTally(name))
  }

  /** Runs until the plan is at its end. */
  async run(): Promise<void> {
    const strays = (error: unknown): void => void (this.astray ??= error)
    process.on('uncaughtException', strays).on('unhandledRejection', strays)
    const end = performance.now() + (this.plan.seconds ?? Infinity) * 1000
    try {
      for (;;) {
        const at = this.next()
        if (at < 0 || this.isOver(end)) return
        await this.turn(this.surfaces[at]!, this.tallies[at]!)
        this.lookAtMemory()
      }
    } finally {
      process.off('uncaughtException', strays).off('unhandledRejection', strays)
    }
  }

  /** Carries out one case. Returns what is wrong with it; null if nothing is. */
  async one(surface: Surface, number: number): Promise<Found | null> {
    return (await this.carryOut(surface, number)).found
  }

  private isOver(end: number): boolean {
    const { bytes = Infinity } = this.plan
    return performance.now() > end || this.bytes >= bytes || this.hasFound
  }

  private get hasFound(): boolean {
    return this.found.length >= (this.plan.findings ?? findingsMax)
  }

  /** The surface that has had the least of its share; -1 when all have done their cases. */
  private next(): number {
    let best = -1
    let least = Infinity
    for (const [at, { spent, cases }] of this.tallies.entries()) {
      const share = spent / this.surfaces[at]!.weight
      if (cases >= (this.plan.cases ?? Infinity) || share >= least) continue
      best = at
      least = share
    }
    return best
  }

  private async turn(surface: Surface, tally: Tally): Promise<void> {
    const began = performance.now()
    const { cases = Infinity } = this.plan
    do {
      const number = tally.cases++
      const { trial, found } = await this.carryOut(surface, number)
      tally.bytes += trial.bytes
      tally.connections += trial.connections
      this.bytes += trial.bytes
      const wrong = found ?? (await this.whySlow(surface, number, trial))
      if (wrong === null) tally.longest = Math.max(tally.longest, trial.longest)
      else this.report(wrong)
    } while (performance.now() - began < turnMs && tally.cases < cases && !this.hasFound)
    tally.spent += performance.now() - began
  }

  private async carryOut(
    surface: Surface,
    number: number,
  ): Promise<{ trial: Trial; found: Found | null }> {
    const trial = new Trial(diceOf(this.plan.seed, surface.name, number))
    let wrong: unknown = null
    try {
      await surface.run(trial)
    } catch (error) {
      wrong = error
    }
    wrong ??= this.astray
    this.astray = null
    const found = wrong === null ? null : { surface: surface.name, number, what: textOf(wrong) }
    return { trial, found }
  }

  /** Repeats a case with a long step. It is a finding if the step is long every time. */
  private async whySlow(surface: Surface, number: number, first: Trial): Promise<Found | null> {
    for (let left = replays; left > 0 && first.longest > stepMsMax; left--) {
      const { trial, found } = await this.carryOut(surface, number)
      if (found !== null) return found
      first.longest = Math.min(first.longest, trial.longest)
    }
    if (first.longest <= stepMsMax) return null
    const what = `a step takes ${first.longest.toFixed(1)} ms, every time`
    return { surface: surface.name, number, what }
  }

  private lookAtMemory(): void {
    const growth = this.memory.look()
    if (growth <= growthMax) return
    const what = `memory has grown by ${Math.round(growth / MiB)} MiB, and is not given back`
    this.report({ surface: 'all', number: 0, what })
  }

  private report(found: Found): void {
    this.found.push(found)
    this.plan.onFound?.(found)
  }
}

function newTally(surface: string): Tally {
  return { surface, cases: 0, connections: 0, bytes: 0, spent: 0, longest: 0 }
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

/** The memory of the process that is still referred to. */
class Memory {
  private readonly collect: () => void
  private due = performance.now() + memoryInterval
  private first: number | null = null

  constructor() {
    // The collector is not there for programs unless it is asked for.
    setFlagsFromString('--expose-gc')
    this.collect = runInNewContext('gc') as () => void
  }

  /** Bytes by which memory has grown since the first look; 0 between two looks. */
  look(): number {
    if (performance.now() < this.due) return 0
    this.collect()
    const { heapUsed, external } = process.memoryUsage()
    const now = heapUsed + external
    this.first ??= now
    const growth = now - this.first
    // What was found once is not found again with every look.
    if (growth > growthMax) this.first = now
    this.due = performance.now() + memoryInterval
    return growth
  }
}
