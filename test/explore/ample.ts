import type { Head } from './head.ts'
import type { Op } from './model.ts'
import { claimAll, claimsTogether, isAlone } from './together.ts'
import type { World } from './world.ts'

/**
 * Where some of what may happen next can be taken first without a loss, it alone is offered: it
 * changes nothing that anything else reads or changes, now or before it happens, and cannot mend a
 * state that is wrong. Each is argued in `docs/explore.md`. False where there is no such.
 */
export function offerAlone(world: World): boolean {
  const { lastHead } = world
  if (world.heads.length === 1 && offerLeftovers(world)) return true
  if (lastHead !== null) return offerParts(world, lastHead)
  const claimant = world.heads.find(({ word }) => word === 'claiming')
  if (claimant === undefined || !isAlone(world, claimant)) return false
  return offerClaims(world) !== null
}

/** The head whose claims arrive together, which is offered. */
export function offerClaims(world: World): Head | null {
  const head = world.heads.find((one) => claimsTogether(world, one))
  if (head === undefined) return null
  world.moves.push((choose) => claimAll(world, head, choose))
  return head
}

/** A leg on which ops of before are under way is not looked at before the last of them is gone. */
function offerLeftovers(world: World): boolean {
  const { ops, disks, moves } = world
  for (let leg = 0; leg < disks.length; leg++) {
    const here = [...ops.keys()].filter((at) => ops[at]!.leg === leg && ops[at]!.kind !== 'save')
    // One that is sure to land may be lost by a fault: that is another order.
    const areFree = here.every(
      (at) => ops[at]!.ghost === 'may-land' || (world.faults === 0 && ops[at]!.ghost === 'lands'),
    )
    if (here.length < 2 || !areFree) continue
    for (const at of here) world.offerOp(at)
    return moves.length > 0
  }
  return false
}

/** The head runs, and no fault is left. */
function offerParts(world: World, head: Head): boolean {
  for (const [at, disk] of world.disks.entries())
    if ((disk.away & (1 << head.index)) !== 0) {
      world.offerBack(at, head.index)
      return true
    }
  for (let at = 0; at < world.ops.length; at++)
    if (isPart(world, head, world.ops[at]!)) {
      world.offerOp(at)
      return true
    }
  return false
}

/** Whether something waits for this and for more of the same: this is only counted. */
function isPart(world: World, head: Head, op: Op): boolean {
  const { configuration, disks } = world
  if (op.ghost !== 'no' || op.head !== head.index) return false
  const run = head.run!
  const disk = disks[op.leg]!
  switch (op.kind) {
    case 'log':
    case 'lacks':
      return !configuration.forcedFlushes && (head.mapLegs & (head.mapLegs - 1)) !== 0
    case 'superblock':
      return !disk.examined && !configuration.forcedFlushes && (run.round?.waits.length ?? 0) > 1
    case 'write':
      return isPartOfWrite(world, head, op)
    case 'flush':
      if (!isFlushedForGood(world, head, op.leg)) return false
      if (op.why === 'clean') return (run.cleaning?.waits.length ?? 0) > 1
      return op.why === 'start' && (run.opening?.waits.length ?? 0) > 1
    case 'all':
    case 'claim':
    case 'copy':
    case 'save':
    case 'stamp':
      return false
  }
}

/** Whether what the leg has on stable storage matters no more. */
function isFlushedForGood({ clients }: World, head: Head, leg: number): boolean {
  const { jobs, legs, parked } = head
  const isFlush = ({ kind }: { readonly kind: string }): boolean => kind === 'flush'
  const isOver = clients.flushes === 0 && !jobs.some(isFlush) && !parked.some(isFlush)
  return isOver && legs[leg]!.stage === 'in-sync'
}

function isPartOfWrite(world: World, head: Head, op: Op): boolean {
  const { jobs } = head
  const job = jobs.find(({ id }) => id === op.job)
  if (job === undefined || (job.pending & (job.pending - 1)) === 0) return false
  // Of another write to the extent the acknowledgement may be due.
  const isAlone = !jobs.some(
    (one) => one !== job && one.kind === 'write' && one.extent === op.extent,
  )
  return isAlone && isFlushedForGood(world, head, op.leg)
}
