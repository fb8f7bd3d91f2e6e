import { answer, fail } from './answers.ts'
import { claim, claiming, hadAnother, hearsOfClaim } from './claims.ts'
import type { Op } from './model.ts'
import { nameOp } from './names.ts'
import type { Choose, Disk, World } from './world.ts'

/** What becomes of something under way. */

export function vanish(world: World, op: Op): string {
  world.ops = world.ops.filter((one) => one !== op)
  return `${nameOp(op)} never arrives`
}

export function land(world: World, op: Op, choose: Choose): string {
  world.ops = world.ops.filter((one) => one !== op)
  if (op.kind !== 'save' && claiming.refuses(world.disks[op.leg]!, op)) {
    // The answer is that a newer head has the leg.
    if (op.kind === 'claim' && op.ghost === 'no') hearsOfClaim(world, op, 'refused')
    if (op.ghost === 'no') fail(world, op, 'FENCED', choose)
    return `${nameOp(op)} is refused`
  }
  const another = op.kind === 'claim' && hadAnother(world, world.heads[op.head]!, op.leg)
  apply(world, op)
  if (op.kind === 'claim' && op.ghost === 'no')
    hearsOfClaim(world, op, another ? 'another' : 'nobody')
  if (op.ghost === 'no') answer(world, op, choose)
  return `${nameOp(op)} is done${op.ghost === 'no' ? '' : ', too late'}`
}

/** It is carried out, whether anybody hears of it or not. */
export function apply(world: World, op: Op): void {
  if (op.kind === 'save') world.stores[op.head] = op.snapshot!
  else if (op.kind === 'claim') claim(world, op)
  else applyToDisk(world, op, world.disks[op.leg]!)
}

function applyToDisk(world: World, op: Op, disk: Disk): void {
  const { kind, leg, extent, value, snapshot } = op
  if (kind === 'write' || kind === 'copy') disk.cache[extent] = value
  else if (kind === 'log') disk.log = value
  else if (kind === 'lacks') disk.lacks = value
  else if (kind === 'all') {
    disk.lacks = value
    disk.log = extent
  } else if (kind !== 'flush') disk.superblock = snapshot!
  const isMetadata = kind !== 'write' && kind !== 'copy' && kind !== 'flush'
  const isSuperblock = kind === 'stamp' || kind === 'superblock'
  if (
    kind === 'flush' ||
    (isMetadata && world.configuration.forcedFlushes) ||
    (isSuperblock && disk.examined)
  )
    for (const [at, cached] of disk.cache.entries()) disk.stable[at] = cached
  if (!isSuperblock) return
  disk.examined = false
  for (const { plan } of world.heads) if (plan !== null) plan.seen &= ~(1 << leg)
}
