import type { Codec } from './codec.ts'
import type { Head } from './head.ts'
import type { Plan } from './plan.ts'
import type { World } from './world.ts'

/** Sorts the legs and extents of the codec's view by what is so of them, not by their names. */
export function sortView(world: World, codec: Codec): void {
  const { legs, extents } = world.configuration
  const { view } = codec
  if (legs > 1) {
    for (let leg = 0; leg < legs; leg++) legKeys[leg] = keyOfLeg(world, codec, leg)
    view.sortLegs(legKeys)
  }
  if (extents > 1) {
    for (let extent = 0; extent < extents; extent++)
      extentKeys[extent] = keyOfExtent(world, codec, extent)
    view.sortExtents(extentKeys)
  }
}

const legKeys: number[] = []
const extentKeys: number[] = []

function mix(key: number, value: number): number {
  const mixed = Math.imul(key ^ (value + 0x7f4a7c15), 0x9e3779b1)
  return mixed ^ (mixed >>> 15)
}

/** What is so of the leg; of its extents the sum, which is the same in every order. */
function keyOfLeg(world: World, codec: Codec, at: number): number {
  const { disks, heads, ops, stores, configuration } = world
  const disk = disks[at]!
  let key = mix(disk.away + 4 * disk.told, disk.examined ? 1 : 0)
  if (heads.length > 1) key = mix(key, disk.known + 4 * disk.unheard)
  key = mix(key, codec.rank(disk.superblock.generation))
  for (let leg = 0; leg < configuration.legs; leg++)
    key += mix(leg === at ? 17 : 18, countOf((disk.lacks >> (3 * leg)) & 7))
  for (const head of heads) {
    const store = stores[head.index]!
    key = mix(mix(key, store.states[at]!), codec.rank(store.left[at]!))
    key = mix(key, store.boots[at] === disk.boot ? 1 : 0)
    if (head.plan !== null) key = mix(key, keyOfPlan(head.plan, 1 << at))
    if (head.word === 'running') key = keyOfRun(head, at, key)
  }
  for (const op of ops)
    if (op.leg === at && op.kind !== 'save') key += mix(op.kind.length, op.ghost.length)
  for (let extent = 0; extent < configuration.extents; extent++)
    key += keyOfCell(world, at, extent, 1)
  return key | 0
}

function keyOfPlan({ present, seen, waits }: Plan, leg: number): number {
  return (
    ((present & leg) === 0 ? 0 : 1) + ((seen & leg) === 0 ? 0 : 2) + ((waits & leg) === 0 ? 0 : 4)
  )
}

function keyOfRun(head: Head, at: number, before: number): number {
  const { stage, dirty, unflushed, coming, finishing, flushedMoment, member } = head.legs[at]!
  const run = head.run!
  const bit = 1 << at
  let key = mix(before, stage.length * 4 + (dirty === null ? 0 : 1) + (unflushed === null ? 0 : 2))
  key = mix(key, (coming?.phase.length ?? 0) * 16 + (finishing?.phase.length ?? 0))
  key = mix(key, flushedMoment === head.log.moment ? 1 : 0)
  key = mix(key, member.left === null ? 0 : 1)
  key = mix(key, (head.mapLegs & bit) === 0 ? 0 : 1)
  key = mix(key, run.round?.waits.some(({ index }) => index === at) === true ? 1 : 0)
  key = mix(key, run.round?.joining.some(({ index }) => index === at) === true ? 1 : 0)
  for (const { pending } of head.jobs) key = mix(key, (pending & bit) === 0 ? 0 : 1)
  return key
}

function keyOfExtent(world: World, { view }: Codec, extent: number): number {
  const { clients, heads, ops } = world
  let key = mix(clients.acknowledged[extent]!, clients.flushed[extent]!)
  for (let place = 0; place < view.legs.length; place++)
    key = mix(key, keyOfCell(world, view.legs[place]!, extent, place + 1))
  for (const head of heads) {
    if (head.word === 'running') key = mix(key, keyOfLog(head, extent))
    for (const job of head.jobs) if (job.extent === extent) key = mix(key, job.kind.length)
    for (const job of head.parked) if (job.extent === extent) key = mix(key, 3)
  }
  for (const op of ops)
    if (op.extent === extent && (op.kind === 'write' || op.kind === 'copy'))
      key += mix(view.placeOfLeg[op.leg]! + 1, op.kind.length + 8 * op.ghost.length)
  return key | 0
}

function keyOfLog({ log }: Head, extent: number): number {
  const { hot, durable, fresh, writing, bits, inherited } = log
  const key = bitOf(hot, extent) + 2 * bitOf(durable, extent) + 4 * bitOf(fresh, extent)
  const rest = bitOf(writing, extent) + 2 * bitOf(bits, extent) + 4 * bitOf(inherited, extent)
  return key + 8 * rest + 64 * log.inFlight[extent]!
}

/** What is so of one extent of one leg. */
function keyOfCell(world: World, leg: number, extent: number, seed: number): number {
  const { cache, stable, log, lacks } = world.disks[leg]!
  let key = mix(seed, cache[extent]! * 16 + stable[extent]!)
  key = mix(key, bitOf(log, extent) + 2 * bitOf(lacks >> (3 * leg), extent))
  for (const head of world.heads) {
    if (head.word !== 'running') continue
    const { dirty, unflushed } = head.legs[leg]!
    if (dirty !== null) {
      const { bits, durable, copying, missed } = dirty
      const known = bitOf(bits, extent) + 2 * bitOf(durable, extent)
      key = mix(key, known + 4 * bitOf(copying, extent) + 8 * bitOf(missed, extent))
    }
    if (unflushed !== null) key = mix(key, bitOf(unflushed.bits, extent))
  }
  return key
}

function bitOf(bits: number, at: number): number {
  return (bits >> at) & 1
}

function countOf(bits: number): number {
  return (bits & 1) + ((bits >> 1) & 1) + ((bits >> 2) & 1)
}
