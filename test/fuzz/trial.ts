import { Dice } from '../simulation/dice.ts'

/** A step that takes longer, in milliseconds, keeps all other clients waiting for too long. */
export const stepMsMax = 20

/** Something is not as it has to be. */
export class Finding extends Error {}

/** Ends the case with a finding unless the condition holds. */
export function must(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Finding(what)
}

/** One case of a surface: its chance, and what is counted of it. */
export class Trial {
  readonly dice: Dice
  /** Bytes that the code under test was fed. */
  bytes = 0
  connections = 0
  /** Milliseconds of the longest step, of those that the processor spent on it. */
  longest = 0

  constructor(dice: Dice) {
    this.dice = dice
  }

  /** Runs a piece of work that nothing else can come between. */
  step<T>(work: () => T): T {
    const watch = new Watch()
    try {
      return work()
    } finally {
      this.longest = Math.max(this.longest, watch.ms)
    }
  }

  /** Lets the process's own loop go round once, and takes that for a step. */
  async turn(): Promise<void> {
    const watch = new Watch()
    await new Promise((resolve) => setImmediate(resolve))
    this.longest = Math.max(this.longest, watch.ms)
  }
}

/** Milliseconds that passed; of many, only those in which the processor worked for us. */
class Watch {
  private readonly began = performance.now()
  private readonly before = process.cpuUsage()

  get ms(): number {
    const ms = performance.now() - this.began
    if (ms <= stepMsMax) return ms
    // On a busy machine others had the processor meanwhile.
    const { user, system } = process.cpuUsage(this.before)
    return Math.min(ms, (user + system) / 1000)
  }
}

/** A way in for hostile bytes. */
export interface Surface {
  readonly name: string
  /** The share of the time that it gets, relative to the others. */
  readonly weight: number
  /** Carries out the case that the trial's dice give; rejects with what is wrong. */
  run(trial: Trial): Promise<void>
  /** Gives back what all cases used. */
  close?(): Promise<void>
}

/** The dice of a case: the same whatever ran before it. */
export function diceOf(seed: number, surface: string, number: number): Dice {
  let mixed = seed >>> 0
  for (const letter of surface) mixed = Math.imul(mixed ^ letter.charCodeAt(0), 0x01000193) >>> 0
  return new Dice((mixed ^ Math.imul(number + 1, 0x9e3779b1)) >>> 0)
}
