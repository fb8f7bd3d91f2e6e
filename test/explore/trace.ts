import type { Explored, Step, Violation } from './engine.ts'
import { Odometer } from './odometer.ts'
import { Pack } from './pack.ts'

/** A state as it is packed, and what is left of its budget. */
interface Packed {
  readonly bytes: Uint8Array
  readonly budget: number
}

/**
 * How a state was reached: `path` has the number of the way that was taken in each state. What is
 * reduced changes names from step to step. So the same way is looked for without, among all that
 * may happen, by the states that it leads through; where there is none the known one counts.
 */
export function traceOf(world: Explored, path: readonly number[], what: string): Violation {
  const pack = new Pack()
  const trace: Step[] = []
  const reached: Packed[] = []
  world.reset()
  for (const wanted of path) {
    trace.push(go(world, pack, (number) => number === wanted)!)
    reached.push(settleIn(world, pack))
  }
  if (!world.reduces) return { what, trace }
  world.reduces = false
  const found = withoutReduction(world, pack, reached)
  world.reduces = true
  return found ?? { what: `${what} (legs change their names on the way)`, trace }
}

function withoutReduction(
  world: Explored,
  pack: Pack,
  states: readonly Packed[],
): Violation | null {
  world.reset()
  const trace: Step[] = []
  let what = ''
  for (const state of states) {
    const step = go(world, pack, () => isAlike(world, pack, state))
    if (step === null) return null
    trace.push(step)
    what = world.check()
    settleIn(world, pack)
  }
  if (what === '') what = world.list()
  return what === '' ? null : { what, trace }
}

/** Goes the first way that is wanted, by its number or by where it leads; null if there is none. */
function go(world: Explored, pack: Pack, wants: (number: number) => boolean): Step | null {
  const from = settleIn(world, pack)
  const odometer = new Odometer()
  let number = 0
  world.list()
  for (let move = 0; move < world.listed; move++)
    do {
      load(world, pack, from)
      world.happen(move, odometer.choose)
      const choices = [...odometer.choices]
      if (wants(number++)) {
        load(world, pack, from)
        const again = [...choices]
        const what = world.happen(move, () => again.shift() ?? 0)
        return { choices: [move, ...choices], what }
      }
    } while (odometer.next())
  return null
}

/** Packs the state and reads it again, as the search does. */
function settleIn(world: Explored, pack: Pack): Packed {
  const state = packed(world, pack)
  load(world, pack, state)
  return state
}

function packed(world: Explored, pack: Pack): Packed {
  pack.beginWriting()
  world.transfer(pack)
  return { bytes: pack.bytes.slice(0, pack.at), budget: world.budget }
}

function load(world: Explored, pack: Pack, { bytes, budget }: Packed): void {
  pack.beginReading(bytes, 0)
  world.transfer(pack)
  world.budget = budget
}

/** Whether the world is in that state, when what cannot be told apart is one. */
function isAlike(world: Explored, pack: Pack, { bytes, budget }: Packed): boolean {
  world.reduces = true
  let isAlike = false
  if (packed(world, pack).budget === budget)
    for (let renaming = 0; !isAlike; renaming++) {
      pack.beginWriting()
      if (!world.writeRenamed(pack, renaming)) break
      isAlike = pack.at === bytes.length && bytes.every((byte, at) => byte === pack.bytes[at])
    }
  world.reduces = false
  return isAlike
}
