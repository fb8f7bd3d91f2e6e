import { blows } from './blows.ts'
import type { Dice } from './dice.ts'
import { effectKinds, type EffectKind } from './effects.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** The second of two blows follows at one of the next effects of its kind. */
const effectsMax = 3

/** Waits for an effect and strikes in that moment; then waits for another, and strikes again. */
export class Ambush {
  private readonly world: World
  private readonly dice: Dice
  private strikes = 2
  private kind: EffectKind = 'state'
  private left = 0

  constructor(world: World, dice: Dice) {
    this.world = world
    this.dice = dice
  }

  /** Returns how to give it up. */
  start(): () => void {
    this.aim()
    this.world.effects.watch(this.watcher)
    return () => {
      this.world.effects.unwatch(this.watcher)
    }
  }

  private aim(): void {
    this.kind = this.dice.pick(effectKinds)
    this.left = this.dice.integer(1, effectsMax)
  }

  private readonly watcher = (kind: EffectKind, about: Leg | null): void => {
    const { world, dice } = this
    if (kind !== this.kind || --this.left > 0 || !world.faults.active) return
    const leg = about !== null && dice.chance(0.6) ? about : dice.pick(world.legs)
    const able = blows.filter(({ far }) => !far || leg.target !== null)
    const blow = dice.pick(able)
    world.trace.note(`${blow.name} of ${leg.name} at ${kind} ${about?.name ?? ''}`)
    if (--this.strikes === 0) world.effects.unwatch(this.watcher)
    else this.aim()
    blow.strike(world, leg)
  }
}
