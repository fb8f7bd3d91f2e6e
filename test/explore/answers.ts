import type { Code } from '../../src/base/errors.ts'
import { claimed, keepWhileServing, notClaimed } from './claims.ts'
import type { Head } from './head.ts'
import type { HeadLeg, Op } from './model.ts'
import type { Choose, World } from './world.ts'

/** What a head has under way was carried out, and it hears of that. */
export function answer(world: World, op: Op, choose: Choose): void {
  const head = world.heads[op.head]!
  const leg = head.legs[op.leg]!
  const job = head.jobs.find(({ id }) => id === op.job)
  switch (op.kind) {
    case 'write':
      if (job !== undefined) head.answered(job, leg)
      break
    case 'flush':
      head.tell({ kind: 'flushed', leg, why: op.why, moment: op.moment, error: null })
      if (op.why === 'client' && job !== undefined) head.answered(job, leg)
      break
    case 'copy':
      copied(head, leg, op.extent)
      break
    case 'log':
    case 'lacks':
    case 'all':
      head.mapped(leg, 'written')
      break
    case 'stamp':
      head.tell({ kind: 'stamped', leg, error: null })
      break
    case 'superblock':
      head.tell({ kind: 'superblock', leg, version: op.job, error: null })
      break
    case 'claim':
      claimed(world, head, leg, choose)
      break
    case 'save':
      head.tell({ kind: 'saved', version: op.job })
      break
  }
  lookForCopied(head)
  keepWhileServing(world, head)
}

function copied(head: Head, { dirty }: HeadLeg, extent: number): void {
  const bit = 1 << extent
  if (dirty === null || (dirty.copying & bit) === 0) return
  const missed = (dirty.missed & bit) !== 0
  dirty.copying &= ~bit
  dirty.missed &= ~bit
  if (!missed) dirty.copied(extent)
  head.grantRanges()
}

/** A leg that lacks nothing any more is made in sync. */
export function lookForCopied(head: Head): void {
  for (const leg of head.legs)
    if (leg.stage === 'syncing' && leg.finishing === null && !leg.dirty!.any)
      head.tell({ kind: 'copied', leg, what: 'all' })
}

/** The same, and it failed. */
export function fail(world: World, op: Op, code: Code, choose: Choose): void {
  const head = world.heads[op.head]!
  const leg = head.legs[op.leg]!
  const error = { code, message: op.kind }
  const job = head.jobs.find(({ id }) => id === op.job)
  switch (op.kind) {
    case 'write':
      if (job !== undefined) head.refused(job, leg, code)
      break
    case 'flush':
      if (op.why !== 'client') head.tell({ kind: 'flushed', leg, why: op.why, moment: 0, error })
      else if (job !== undefined) head.refused(job, leg, code)
      break
    case 'copy':
      head.tell({ kind: 'failed', leg, work: 'write', error })
      break
    case 'log':
    case 'lacks':
    case 'all':
      head.tell({ kind: 'failed', leg, work: 'metadata', error })
      head.mapped(leg, 'not')
      break
    case 'stamp':
      head.tell({ kind: 'stamped', leg, error })
      break
    case 'superblock':
      head.tell({ kind: 'superblock', leg, version: op.job, error })
      break
    case 'claim':
      if (notClaimed(head, leg, code)) claimed(world, head, leg, choose)
      break
    case 'save':
      head.tell({ kind: 'ended' })
      if (head.run !== null) head.endRun()
  }
}
