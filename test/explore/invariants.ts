import { rules } from '../../src/mirror/rules/table.ts'
import type { Head } from './head.ts'
import type { HeadLeg } from './model.ts'
import { lookAt, visible } from './procedures.ts'
import type { World } from './world.ts'

/** What must hold in every state; see `docs/invariants.md`. '' when it does. */
export function wrong(world: World): string {
  return (
    twoSuperblocks(world) || world.heads.map((head) => wrongWith(world, head)).find(Boolean) || ''
  )
}

function wrongWith(world: World, head: Head): string {
  const { run } = head
  if (run?.word !== 'running') return ''
  const { acknowledged, flushed } = world.clients
  for (const [extent, value] of acknowledged.entries()) {
    const quiet = !head.isTaken(extent)
    let first = -1
    for (const leg of run.readable) {
      // It is asked, and refuses.
      if (world.heads.length > 1 && !world.reaches(head, leg.index)) continue
      const { cache, stable } = world.disks[leg.index]!
      const reads = cache[extent]!
      // 1 and 5: nothing acknowledged is lost unless clients were told, and nothing old is read.
      if (reads < value)
        return `${leg.name} reads as ${reads} in extent ${extent}, and ${value} was acknowledged`
      // 6: what was flushed survives a loss of power.
      if (stable[extent]! < flushed[extent]!)
        return `${flushed[extent]!} was flushed, and ${leg.name} may lose it`
      // 3: whichever leg answers.
      if (quiet && first !== -1 && reads !== first)
        return `extent ${extent} reads as ${first} and, from ${leg.name}, as ${reads}`
      first = reads
    }
  }
  return ''
}

/** Of the two slots of a superblock one is whole: only one may be written at a time. */
function twoSuperblocks({ ops, disks }: World): string {
  for (const [at, disk] of disks.entries()) {
    const writes = ops.filter(
      ({ kind, leg, claim }) =>
        leg === at && claim >= disk.claim && (kind === 'superblock' || kind === 'stamp'),
    )
    if (writes.length > 1) return `two superblocks are under way on ${'abc'[at]!}`
  }
  return ''
}

/** Whether the volume could start now. */
export function startsLate(world: World, head: Head): boolean {
  const here = lookAt(world, head)
  if (here.length === 0) return false
  const intents = here.some(({ leg }) => world.disks[leg.index]!.log !== 0)
  if (!intents) return true
  // One that is there and shows an older state has nothing to wait for.
  const seen = visible(world, head)
  return rules.awaitedForCache(head.record, here).every(({ slot }) => seen.includes(slot))
}

export function inSync({ run }: Head, leg: HeadLeg): boolean {
  return run === null || run.readable.includes(leg)
}
