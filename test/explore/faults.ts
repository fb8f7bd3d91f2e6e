import { fail, lookForCopied } from './answers.ts'
import { claiming, forgetHeard, keepFloor } from './claims.ts'
import type { FaultKind } from './config.ts'
import type { Head } from './head.ts'
import { apply } from './landing.ts'
import type { Op } from './model.ts'
import { nameHead, nameOf, nameOp } from './names.ts'
import type { Choose, Disk, World } from './world.ts'

const faultNames: Readonly<Record<FaultKind, string>> = {
  restart: 'restarts',
  away: 'goes away',
  cut: 'loses power',
  flush: 'cannot flush',
  error: 'fails',
  silent: 'does not answer',
  store: 'the head cannot save',
  crash: 'the head dies',
  blackout: 'everything loses power',
}

/** A boot id that nothing has: they are named anew whenever the state is packed. */
const freshBoot = 250

export function offerFaults(world: World): void {
  const { kinds } = world.configuration
  const offer: Offer = (kind, of, happens) => {
    if (!kinds.has(kind)) return
    world.moves.push((choose) => {
      world.faults--
      happens(choose)
      return `! ${of}${faultNames[kind]}`
    })
  }
  for (const at of world.disks.keys()) offerFaultsOfLeg(world, at, offer)
  for (const at of world.ops.keys()) offerFailures(world, at, offer)
  for (const head of world.heads)
    if (head.word !== 'dead')
      offer('crash', head.index === 0 ? '' : 'of two: ', (choose) => crash(world, head, choose))
  offer('blackout', '', (choose) => blackout(world, choose))
}

function offerFaultsOfLeg(world: World, at: number, offer: Offer): void {
  const disk = world.disks[at]!
  const name = `${nameOf(at)} `
  const isAlone = world.heads.length === 1
  if (disk.away === 0) offer('restart', name, (choose) => restarts(world, at, choose))
  else if (hasUnflushed(disk)) offer('cut', name, (choose) => restarts(world, at, choose))
  for (const { index } of world.heads)
    if ((disk.away & (1 << index)) === 0) {
      const from = isAlone ? name : `for ${nameHead(index)} ${name}`
      offer('away', from, (choose) => goesAway(world, world.heads[index]!, at, choose))
    }
}

type Offer = (kind: FaultKind, of: string, happens: (choose: Choose) => void) => void

function offerFailures(world: World, at: number, offer: Offer): void {
  const { kind, ghost, ...op } = world.ops[at]!
  if (ghost !== 'no') return
  const name = `${nameOp(world.ops[at]!)} `
  if (kind === 'save') offer('store', '', (choose) => failAlone(world, world.ops[at]!, choose))
  else if (kind === 'flush')
    offer('flush', name, (choose) => failFlush(world, world.ops[at]!, choose))
  else {
    offer('error', name, (choose) => failAlone(world, world.ops[at]!, choose))
    offer('silent', name, () => {
      const head = world.heads[op.head]!
      head.tell({ kind: 'silent', leg: head.legs[op.leg]!, reason: 'no answer' })
      lookForCopied(head)
    })
  }
}

function failAlone(world: World, op: Op, choose: Choose): void {
  world.ops = world.ops.filter((one) => one !== op)
  fail(world, op, 'IO', choose)
  lookForCopied(world.heads[op.head]!)
}

/** Heads that reach the leg. */
function reaching({ heads, disks }: World, at: number): Head[] {
  return heads.filter(({ index }) => (disks[at]!.away & (1 << index)) === 0)
}

/** Takes what is under way on the leg from it: some of it may have been carried out. */
export function cutOff(world: World, at: number, of: readonly Head[], choose: Choose): Op[] {
  const here = world.ops.filter(
    (op) => op.leg === at && op.kind !== 'save' && of.includes(world.heads[op.head]!),
  )
  world.ops = world.ops.filter((op) => !here.includes(op))
  carryOutSome(world, here, choose)
  return here
}

function carryOutSome(world: World, ops: readonly Op[], choose: Choose): void {
  for (const op of ops)
    if (!claiming.refuses(world.disks[op.leg]!, op) && choose(2) === 1) apply(world, op)
}

/** Who reaches it sees that it lost power, at once. */
function restarts(world: World, at: number, choose: Choose): void {
  const here = cutOff(world, at, reaching(world, at), choose)
  losePower(world.disks[at]!, choose)
  tellLoss(world, at, here, choose)
}

/**
 * A failed flush is the same event, because the device begins another life of its cache: all heads
 * lose their sessions in the turn in which it fails, and see that before anything else is answered.
 * What was under way fails. As the leg goes on, that may be carried out after the loss as well.
 */
function failFlush(world: World, op: Op, choose: Choose): void {
  const at = op.leg
  world.ops = world.ops.filter((one) => one !== op)
  const disk = world.disks[at]!
  const isUnderWay = world.ops.some(({ leg, kind }) => leg === at && kind !== 'save')
  if (hasUnflushed(disk) || isUnderWay) {
    const here = cutOff(world, at, reaching(world, at), choose)
    losePower(disk, choose)
    const late = here.filter(
      ({ kind, extent, value }) => isData(kind) && disk.cache[extent] !== value,
    )
    carryOutSome(world, late, choose)
    tellLoss(world, at, here, choose)
  }
  fail(world, op, 'IO', choose)
  lookForCopied(world.heads[op.head]!)
}

/** Another life of the leg's cache has begun, and what was under way fails. */
function tellLoss(world: World, at: number, cut: readonly Op[], choose: Choose): void {
  const heads = reaching(world, at)
  for (const head of heads) world.tellDevice(head, at)
  for (const op of cut) if (op.ghost === 'no') fail(world, op, 'STALE', choose)
  for (const head of heads) lookForCopied(head)
}

function goesAway(world: World, head: Head, at: number, choose: Choose): void {
  const disk = world.disks[at]!
  disk.away |= 1 << head.index
  disk.told &= ~(1 << head.index)
  const here = cutOff(world, at, [head], choose)
  world.tellDevice(head, at)
  for (const op of here) if (op.ghost === 'no') fail(world, op, 'UNAVAILABLE', choose)
  lookForCopied(head)
}

function crash(world: World, head: Head, choose: Choose): void {
  keepFloor(world, head)
  head.die()
  forgetHeard(world, head)
  for (const disk of world.disks) disk.told &= ~(1 << head.index)
  const saves = world.ops.filter((op) => op.kind === 'save' && op.head === head.index)
  for (const op of saves) if (choose(2) === 1) apply(world, op)
  world.ops = world.ops
    .filter((op) => !saves.includes(op))
    .map((op) =>
      op.head !== head.index || op.ghost === 'may-land' ? op : { ...op, ghost: 'may-land' },
    )
}

function blackout(world: World, choose: Choose): void {
  for (const head of world.heads) {
    keepFloor(world, head)
    head.die()
    forgetHeard(world, head)
  }
  const saves = world.ops.filter(({ kind }) => kind === 'save')
  for (const op of saves) if (choose(2) === 1) apply(world, op)
  world.ops = world.ops.filter(({ kind }) => kind !== 'save')
  for (const [at, disk] of world.disks.entries()) {
    cutOff(world, at, world.heads, choose)
    disk.told = 0
    losePower(disk, choose)
  }
}

function hasUnflushed({ cache, stable }: Disk): boolean {
  return cache.some((value, at) => value !== stable[at])
}

/** Each extent that was not flushed is there still, or as it was before. */
function losePower(disk: Disk, choose: Choose): void {
  disk.boot = freshBoot
  disk.examined = true
  for (const [at, value] of disk.cache.entries())
    if (value !== disk.stable[at] && choose(2) === 0) disk.cache[at] = disk.stable[at]!
    else disk.stable[at] = value
}

function isData(kind: Op['kind']): boolean {
  return kind === 'write' || kind === 'copy'
}
