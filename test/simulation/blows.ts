import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** Milliseconds until what a blow ended is there again. */
const soonMs = 20
const lateMs = 1500

/** Something that goes wrong at once, and ends by itself. */
export interface Blow {
  readonly name: string
  /** Whether it needs a leg that a target has. */
  readonly far: boolean
  readonly strike: (world: World, leg: Leg) => void
}

function endHead(world: World, how: 'killed' | 'crashed', ms: number): void {
  world.killHead(how)
  world.clock.after(ms, null, () => {
    if (!world.headMachine.up) world.headMachine.boot()
    if (world.head === null) world.startHead()
  })
}

function crash(world: World, leg: Leg, ms: number): void {
  if (!leg.machine.up) return
  world.faults.crashTarget(leg)
  world.clock.after(ms, null, () => {
    world.faults.bootTarget(leg)
  })
}

export function failFlush({ medium }: Leg): void {
  medium.dropsUnwritten = true
  medium.flushFails = true
  medium.flushFailsOnce = true
}

function cut(world: World, leg: Leg, ms: number): void {
  const { network, clock } = world
  const head = world.headMachine.name
  world.trace.note(`partition of ${leg.name}`)
  network.cut(head, leg.name)
  network.cut(leg.name, head)
  clock.after(ms, null, () => {
    network.heal(head, leg.name)
    network.heal(leg.name, head)
  })
}

/** One write after the other fails, for a short while. */
function refuse(world: World, { medium }: Leg): void {
  const defect = { from: 0, to: Infinity, reads: false, writes: true }
  world.trace.note(`writes of ${medium.name} fail`)
  medium.defects.push(defect)
  world.clock.after(soonMs, null, () => {
    medium.defects.splice(medium.defects.indexOf(defect), 1)
  })
}

function failSaves(world: World, ms: number): void {
  const { state } = world
  world.trace.note('saves fail')
  state.failing = true
  world.clock.after(ms, null, () => (state.failing = false))
}

/** Saves hang, and those are never heard of again. */
function hangSaves({ state, clock, trace }: World): void {
  trace.note('saves hang')
  state.hung = true
  clock.after(50 * soonMs, null, () => {
    state.unhang(true)
  })
}

function blackout(world: World): void {
  endHead(world, 'crashed', soonMs)
  for (const leg of world.legs) if (leg.target !== null) crash(world, leg, soonMs)
}

/** In the order in which they are tried. */
export const blows: readonly Blow[] = [
  { name: 'killHead', far: false, strike: (world) => endHead(world, 'killed', soonMs) },
  { name: 'crashHead', far: false, strike: (world) => endHead(world, 'crashed', soonMs) },
  { name: 'crashSoon', far: true, strike: (world, leg) => crash(world, leg, soonMs) },
  { name: 'crashLate', far: true, strike: (world, leg) => crash(world, leg, lateMs) },
  { name: 'failFlush', far: false, strike: (_, leg) => failFlush(leg) },
  { name: 'cut', far: true, strike: (world, leg) => cut(world, leg, lateMs) },
  { name: 'refuse', far: false, strike: refuse },
  { name: 'failSaves', far: false, strike: (world) => failSaves(world, 50 * soonMs) },
  { name: 'hangSaves', far: false, strike: hangSaves },
  { name: 'blackout', far: false, strike: blackout },
]
