import { settleMembers } from '../../src/mirror/rules/choosing.ts'
import { rules } from '../../src/mirror/rules/table.ts'
import { Lacks } from './books.ts'
import { judge } from './claims.ts'
import { generationOf, restore, type Snapshot } from './codec.ts'
import type { Head } from './head.ts'
import type { HeadLeg } from './model.ts'
import { stepOf } from './plan.ts'
import type { Choose, Disk, World } from './world.ts'

/** What the shell does between two events: it looks at legs, starts, copies. */

/** Whether an extent can be copied to the leg now. */
export function mayCopy(head: Head, leg: HeadLeg, extent: number): boolean {
  const { dirty } = leg
  const bit = 1 << extent
  if (dirty === null || (dirty.bits & bit) === 0) return false
  return head.run!.readable.length > 0 && !head.isTaken(extent)
}

/** Reads the extent and writes it to the leg. Its range is locked: nothing changes it meanwhile. */
export function copy(world: World, head: Head, leg: HeadLeg, extent: number): string {
  const source = head.run!.readable[0]!
  leg.dirty!.copying |= 1 << extent
  world.submit({
    kind: 'copy',
    head: head.index,
    leg: leg.index,
    ghost: 'no',
    job: 0,
    extent,
    value: world.disks[source.index]!.cache[extent]!,
    why: 'client',
    moment: 0,
    snapshot: null,
    claim: head.claim,
  })
  return `extent ${extent} is read from ${source.name} for ${leg.name}`
}

/** Looks at a leg that is there again, and has it return. */
export function giveBack(world: World, head: Head, leg: HeadLeg): string {
  const disk = world.disks[leg.index]!
  disk.examined = true
  const copy = world.heads.length > 1 ? judge(world, head, leg) : judgeAlone(disk, leg)
  if (copy === '') {
    head.unwanted |= leg.bit
    return `${leg.name} is refused`
  }
  const how = {
    copy,
    bootId: String.fromCharCode(disk.boot),
    cause: '',
  }
  head.tell({ kind: 'return', leg, how })
  return `${leg.name} returns, ${how.copy} copy`
}

function judgeAlone({ superblock }: Disk, { member: { left } }: HeadLeg): 'partial' | 'full' {
  return left === null || generationOf(superblock.generation).counter < left.counter
    ? 'full'
    : 'partial'
}

/** A leg that is there, and in sync by the record. */
interface Here {
  readonly leg: HeadLeg
  readonly member: HeadLeg['member']
  readonly bootId: string
  readonly readLast: false
}

/** Legs that can be looked at: nothing of before is under way on them. */
export function visible(world: World, head: Head): number[] {
  return [...world.disks.keys()].filter((at) => world.reaches(head, at) && !world.hasOps(at, head))
}

/** The legs from which the volume may start now, by the head's own record. */
export function present(world: World, head: Head): number[] {
  const own = world.stores[head.index]!
  return visible(world, head).filter((at) => {
    const { superblock } = world.disks[at]!
    return own.states[at] === 0 && isWhole(superblock, own)
  })
}

function isWhole({ generation }: Snapshot, { base }: Snapshot): boolean {
  return generationOf(generation).counter >= generationOf(base).counter
}

/** The legs from which the volume may start, as the rules see them, by the head's own record. */
export function lookAt(world: World, head: Head): Here[] {
  restore(head.record, world.stores[head.index]!)
  return asHere(world, head, present(world, head))
}

function asHere(world: World, head: Head, places: readonly number[]): Here[] {
  return places.map((at) => {
    const leg = head.legs[at]!
    const bootId = String.fromCharCode(world.disks[at]!.boot)
    return { leg, member: leg.member, bootId, readLast: false }
  })
}

/**
 * Starts the volume from the legs that are there. Of those that are equally good the rules take the
 * first. Where names of legs say nothing any of them is the first.
 */
export function start(world: World, head: Head, choose: Choose): string {
  const here = lookAt(world, head)
  if (world.configuration.reduce) here.unshift(...here.splice(choose(here.length), 1))
  return open(world, head, here)
}

/** The same from legs that were claimed, by the record that they were claimed for. */
export function startFrom(world: World, head: Head, legs: number, first: number): void {
  const others = head.subsets[legs]!.filter(({ index }) => index !== first)
  const places = [first, ...others.map(({ index }) => index)]
  const here = asHere(world, head, places)
  const intents = places.some((at) => world.disks[at]!.log !== 0)
  const seen = visible(world, head)
  const awaited = rules
    .awaitedForCache(head.record, here)
    .filter(({ slot }) => !seen.includes(slot))
  if (!intents || awaited.length === 0) open(world, head, here)
}

function open(world: World, head: Head, here: Here[]): string {
  const { record, legs, log } = head
  let intents = 0
  let lacks = 0
  for (const { leg } of here) {
    intents |= world.disks[leg.index]!.log
    lacks |= world.disks[leg.index]!.lacks
  }
  const before = record.members.map(({ state }) => state)
  const choice = rules.chooseSource(here, intents !== 0 ? 'unclean' : 'clean')
  settleMembers(record, here, choice)
  for (const at of visible(world, head)) world.disks[at]!.examined = true
  head.word = 'running'
  for (const [at, leg] of legs.entries()) {
    const { state } = leg.member
    leg.stage = state === 'in-sync' ? 'in-sync' : 'absent'
    leg.bootId = leg.member.bootId
    if (state === 'in-sync') continue
    leg.dirty = new Lacks(world.configuration.extents)
    const found = (lacks >> (3 * at)) & 7
    if (!here.some((one) => one.leg === leg)) leg.dirty.inherit(found)
    if (before[at] !== 'in-sync') leg.dirty.bits |= leg.dirty.durable
    for (let extent = 0; extent < world.configuration.extents; extent++)
      if ((intents & (1 << extent)) !== 0) leg.dirty.set(extent)
  }
  log.inherited = log.bits = intents
  head.run = head.createRun()
  if (choice.lost) loseWhatWaited(world, head)
  const isSame = legs.every(({ member }, at) => (before[at] === 'in-sync') === isInSync(member))
  const again = isSame && world.heads.length > 1 && isOwn(head)
  head.tell({ kind: 'start', what: again ? 'record' : 'members' })
  return `the volume starts from ${choice.source.leg.name}`
}

function isInSync({ state }: HeadLeg['member']): boolean {
  return state === 'in-sync'
}

/** Whether the generation is that of an attempt before: it is no lower than the claim. */
function isOwn({ record, claim }: Head): boolean {
  return record.generation.counter >= stepOf(claim)
}

/** Clients are told, and what waits was meant for the volume of before. */
function loseWhatWaited(world: World, head: Head): void {
  head.parked = []
  world.tellLoss()
}
