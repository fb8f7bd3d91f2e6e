import { SeededRandom } from '../support/seeded.ts'

/** Chance of one seed, in the forms that a simulation asks for. */
export class Dice extends SeededRandom {
  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  /** A number in [low, high). */
  between(low: number, high: number): number {
    return low + this.fraction() * (high - low)
  }

  /** An integer in [low, high]. */
  integer(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  /** Mostly near `low`, seldom near `high`: latencies and lengths as they are in life. */
  skewed(low: number, high: number): number {
    const x = this.fraction()
    return low + (high - low) * x * x * x
  }

  /** A source of its own, so that what it is asked for does not disturb this one. */
  fork(): Dice {
    return new Dice(this.next())
  }
}
