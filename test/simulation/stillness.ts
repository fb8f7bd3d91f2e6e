import { compareLegs } from './audit.ts'
import type { Dice } from './dice.ts'
import type { World } from './world.ts'

/** Milliseconds between two looks whether all is still. */
const lookMs = 1
/** Milliseconds that clients are kept quiet at most. */
const quietMsMax = 200

/** Now and then has all clients wait until nothing is under way, and compares the legs. */
export class Stillness {
  private readonly world: World
  private readonly dice: Dice
  /** Comparisons made. */
  comparisons = 0

  constructor(world: World, dice: Dice) {
    this.world = world
    this.dice = dice
  }

  start(): void {
    const { world, dice } = this
    world.clock.after(dice.skewed(1, world.plan.trouble / 2), null, () => {
      this.hush()
    })
  }

  private hush(): void {
    const { clock } = this.world
    const deadline = clock.time + quietMsMax
    const clients = [...this.world.clients]
    for (const client of clients) client.pause()
    const look = (): void => {
      const over = clock.time >= deadline || this.world.problem !== null
      if (!over && !this.compared()) {
        clock.after(lookMs, null, look)
        return
      }
      for (const client of clients) client.resume()
      if (!this.world.faults.over) this.start()
    }
    look()
  }

  private compared(): boolean {
    const done = compareLegs(this.world)
    if (done) this.comparisons++
    return done
  }
}
