import type { Dice } from './dice.ts'
import { isSpare } from './manage.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** Milliseconds until what goes down for it is there again, at most. */
const downMsMax = 1000

/** What a disk had, which head there was then, and how large the volume. */
interface Copy {
  readonly bytes: Buffer
  readonly head: number
  readonly size: number
}

/** Puts an older copy of a disk into its own place, once, and nobody is told. */
export class PutBack {
  private readonly world: World
  private readonly dice: Dice
  private readonly copies = new Map<Leg, Copy>()

  constructor(world: World, dice: Dice) {
    this.world = world
    this.dice = dice
  }

  /**
   * Copies the leg's disk, or puts back what was copied before: from before the head started last,
   * which is killed for it, or while its target is down and the head goes on. For what nobody can
   * tell see docs/mirror.md. Only a leg that others can do without, all being well.
   */
  act(leg: Leg): void {
    const { world } = this
    const { head, trace } = world
    const copy = this.copies.get(leg)
    if (head === null || !head.opened) return
    const volumeSize = head.device.facts?.size ?? 0
    const sameRun = copy?.head === head.number
    if (copy === undefined || (sameRun && leg.target === null) || this.dice.chance(0.2)) {
      trace.note(`the disk of ${leg.name} is copied`)
      const bytes = Buffer.from(leg.medium.content)
      this.copies.set(leg, { bytes, head: head.number, size: volumeSize })
      return
    }
    if (world.replaced || !isSpare(world, leg) || copy.bytes.length !== leg.medium.size) return
    // Where its metadata were before the volume grew nobody knows: the leg would be called blank.
    if (copy.size !== volumeSize) return
    world.replaced = true
    this.putBack(leg, copy.bytes, sameRun ? 'goes on' : 'is killed')
  }

  private putBack(leg: Leg, copy: Buffer, head: 'goes on' | 'is killed'): void {
    const { world, dice } = this
    if (head === 'is killed') world.killHead('killed')
    putInPlace(world, leg, copy, dice.skewed(0, downMsMax))
    // Nothing happens to the others meanwhile: until it is filled they have the only copy.
    let noticed = false
    world.faults.truce(() => {
      const { state } = world.legStatus()[leg.name] ?? {}
      noticed ||= state !== undefined && state !== 'in-sync'
      return noticed && state === 'in-sync'
    })
    if (head === 'is killed')
      world.clock.after(dice.skewed(0, downMsMax), null, () => {
        if (world.head === null) world.startHead()
      })
  }
}

/** Puts the copy into the place of the leg, whose target loses power for it, if it has one. */
export function putInPlace(world: World, leg: Leg, copy: Buffer, ms: number): void {
  const { medium, target } = leg
  if (target !== null) world.faults.crashTarget(leg)
  medium.rollBack(copy)
  if (target === null) return
  world.clock.after(ms, null, () => {
    world.faults.bootTarget(leg)
  })
}
