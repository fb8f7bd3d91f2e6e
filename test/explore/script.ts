import type { Explored, Step } from './engine.ts'
import { Pack } from './pack.ts'

/** The trace of a violation as a script: in each line what was chosen, and what that was. */
export function scriptOf(trace: readonly Step[]): string {
  return trace.map(({ choices, what }) => `${choices.join(',')}  ${what}`).join('\n')
}

/** Plays a script from the beginning; what is wrong then, '' when nothing is. */
export function replay(world: Explored, script: string): string {
  const pack = new Pack()
  // Names stay what they are.
  world.reduces = false
  world.reset()
  for (const line of script.trim().split('\n')) {
    const [numbers, what] = line.trim().split('  ') as [string, string]
    const choices = numbers.split(',').map(Number)
    // As the search did: what is packed is in one order, whatever led to it.
    rename(world, pack)
    const stuck = world.list()
    if (stuck !== '') return stuck
    // Where the rules are others there may be less to choose from.
    const choose = (count: number): number => Math.min(choices.shift() ?? 0, count - 1)
    const happened = world.listed === 0 ? '' : world.happen(choose(world.listed), choose)
    if (happened !== what) return `the script says: ${what}; what happens is: ${happened}`
    const wrong = world.check()
    if (wrong !== '') return wrong
  }
  rename(world, pack)
  return world.list()
}

/** Writes and reads the state, so that it is as the search would find it. */
export function rename(world: Explored, pack: Pack): void {
  pack.beginWriting()
  world.transfer(pack)
  const copy = pack.bytes.slice(0, pack.at)
  pack.beginReading(copy, 0)
  world.transfer(pack)
}
