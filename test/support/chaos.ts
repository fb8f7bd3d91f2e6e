import { setTimeout as sleep } from 'node:timers/promises'
import { SeededRandom } from './seeded.ts'

/** How long soak tests go on, in seconds; longer ones find more. */
export const soakSeconds = Number(process.env['DST_SOAK_SECONDS'] ?? 20)

/** How often processes are killed where rounds are counted, not time. */
export const soakRounds = Number(process.env['DST_SOAK_ROUNDS'] ?? 10)

/** One thing that goes wrong and is mended before it ends. */
export interface Trouble {
  readonly name: string
  run(random: SeededRandom): Promise<void>
}

/** A number of milliseconds within the bounds. */
export function between(random: SeededRandom, least: number, most: number): number {
  return least + below(random, most - least)
}

/** An integer from 0 to `bound`, less one. */
export function below(random: SeededRandom, bound: number): number {
  return Math.floor(random.fraction() * bound)
}

/**
 * Lets troubles happen, one after the other, each at least once, in an order of chance, until
 * `work` ends. Gives how often each happened.
 */
export async function troubled(
  troubles: readonly Trouble[],
  seed: number,
  work: Promise<unknown>,
): Promise<Record<string, number>> {
  const random = new SeededRandom(seed)
  const counts: Record<string, number> = {}
  const ended = work.then(
    () => 'over',
    () => 'over',
  )
  for (let turn = 0; ; turn++) {
    const pause = sleep(between(random, 300, 1500))
    if ((await Promise.race([ended, pause])) === 'over') break
    const trouble = troubles[turn < troubles.length ? turn : below(random, troubles.length)]!
    await trouble.run(random)
    counts[trouble.name] = (counts[trouble.name] ?? 0) + 1
  }
  await work
  return counts
}
