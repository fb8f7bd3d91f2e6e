import { claiming } from './claims.ts'
import type { Head } from './head.ts'
import { land } from './landing.ts'
import type { Op } from './model.ts'
import { nameHead } from './names.ts'
import type { Choose, World } from './world.ts'

/**
 * Claims of one attempt of a head that arrive together, once no fault is left. Each is argued in
 * `docs/explore.md`.
 */

/** Whether the head's claims may arrive together: no other one looks, and none is refused. */
export function claimsTogether(world: World, head: Head): boolean {
  const { configuration, faults, heads, ops, disks } = world
  if (!configuration.reduce || faults > 0 || head.word !== 'claiming') return false
  const comesAfter = ({ word, claim }: Head): boolean =>
    word === 'halted' || (word === 'running' && claim < head.claim)
  if (!heads.every((one) => one === head || comesAfter(one))) return false
  return ops.every((op) => !isClaim(op, head) || !claiming.refuses(disks[op.leg]!, op))
}

/** Every claim of the head's attempt arrives. */
export function claimAll(world: World, head: Head, choose: Choose): string {
  for (;;) {
    const op = world.ops.find((one) => isClaim(one, head))
    if (op === undefined) break
    land(world, op, choose)
  }
  return `all legs have the claims of ${nameHead(head.index)}`
}

function isClaim({ kind, ghost, head }: Op, { index }: Head): boolean {
  return kind === 'claim' && ghost === 'no' && head === index
}

/** Whether nothing else can happen before the claims of the head are answered. */
export function isAlone(world: World, head: Head): boolean {
  return (
    world.heads.every((one) => one === head || one.word === 'halted') &&
    seesAll(world, head) &&
    world.ops.every((op) => op.kind === 'save' || isClaim(op, head))
  )
}

function seesAll({ disks, faults, configuration }: World, { index }: Head): boolean {
  return (
    configuration.reduce &&
    faults === 0 &&
    disks.every(({ away, told }) => ((away | told) & (1 << index)) === 0)
  )
}

/**
 * The head has looked. Whether all that can happen before its claims arrive might as well have
 * happened before it looked: that changes nothing of what it sees.
 */
export function nothingElseToSee(world: World, head: Head): boolean {
  if (!seesAll(world, head) || !claimsTogether(world, head)) return false
  const { heads, ops, disks } = world
  const changes = (op: Op): boolean =>
    op.head === head.index
      ? !isClaim(op, head)
      : (op.kind === 'superblock' || op.kind === 'stamp' || op.kind === 'claim') &&
        !claiming.refuses(disks[op.leg]!, op)
  if (ops.some(changes)) return false
  return heads.every(
    (one) =>
      one.word !== 'running' ||
      one.legs.every((leg) => one.claim <= disks[leg.index]!.claim || !world.mayReturn(one, leg)),
  )
}
