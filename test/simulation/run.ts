import { loopTurn } from './clock.ts'
import { World } from './world.ts'

/** The outcome of one seed. */
export interface Outcome {
  readonly seed: number
  /** What it is, if it is no seed. */
  readonly name?: string
  readonly problem: string | null
  readonly history: readonly string[]
  readonly fingerprint: number
  readonly operations: number
  readonly faults: number
  readonly steps: number
}

const historyLines = 60

/** Runs one seed. */
export async function runSeed(
  seed: number,
  echo = false,
  world = new World(seed),
): Promise<Outcome> {
  return outcomeOf(world, echo, () => world.run())
}

/** What becomes of `life` in the world. Whatever is thrown anywhere inside is its problem. */
export async function outcomeOf(
  world: World,
  echo: boolean,
  life: () => Promise<void>,
): Promise<Outcome> {
  world.trace.echo = echo
  const crash = (error: unknown): void =>
    world.violated(error instanceof Error ? error : new Error(String(error)))
  process.on('unhandledRejection', crash)
  let problem: string | null = null
  try {
    await life()
    // A rejection that nobody handled is told in a turn of the loop.
    await loopTurn()
    if (world.problem !== null) throw world.problem
  } catch (error) {
    problem = error instanceof Error ? (error.stack ?? error.message) : String(error)
  }
  process.off('unhandledRejection', crash)
  return {
    seed: world.seed,
    problem,
    history: problem === null ? [] : world.trace.about(world.checker.suspect, historyLines),
    fingerprint: world.trace.fingerprint,
    operations: world.operations,
    faults: world.faults.happened,
    steps: world.clock.steps,
  }
}
