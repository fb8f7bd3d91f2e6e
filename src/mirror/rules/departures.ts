import { reasonMax, type LegState } from '../record.ts'
import type { DeviceNow, LegError, Work } from './effects.ts'
import { leaveRound, request } from './rounds.ts'
import { isInSync, regroup, type Run, type RunLeg, type Unflushed } from './run.ts'
import { rules } from './table.ts'
import { onCacheLoss, onFailure, unreachable, wordFor, type Standing } from './verdicts.ts'

/** How a leg leaves. */
export interface Leaving {
  readonly state: LegState
  readonly reason: string
  /** What the leg acknowledged and did not flush: gone for certain, or only if it restarts. */
  readonly cache: 'kept' | 'lost'
}

/** What becomes of a request that a leg has failed. */
export type Verdict =
  /** The leg left, or the run is over: the request goes on without it. */
  | 'without-it'
  /** The leg is the last one: the client is told. */
  | 'tell-client'
  /** The leg stays, and is to be written to where it could not be read. */
  | 'repair'

/**
 * Takes a leg out: it gets no more writes, what it lacks is kept, and no write that it lacks is
 * acknowledged before its leaving is durable. Never to be called with the last leg in sync.
 */
export function leave(run: Run, leg: RunLeg, { state, reason, cache }: Leaving): void {
  const { log } = run
  const member = leg.member!
  const wasInSync = isInSync(leg)
  const was = member.state
  const dirty = (leg.dirty ??= run.makeLacking())
  const unflushed = (leg.unflushed ??= run.makeUnflushed())
  if (cache === 'lost') dirty.forgetCopies()
  run.forEachWrite((write) => {
    rules.missed(leg, write)
  })
  log.forEachSince(leg.safeMoment ?? leg.flushedMoment, (extent, row) => {
    unflushed.add(extent, row)
  })
  if (cache === 'lost') {
    dirty.missSet(unflushed)
    leg.unflushed = null
  }
  if (wasInSync) distrust(run, leg, unflushed)
  if (wasInSync && member.left === null) member.left = run.record.base
  leg.stage = state === 'detached' ? 'detached' : 'absent'
  member.state = state
  member.reason = reason.slice(0, reasonMax)
  regroup(run)
  request(run, wasInSync ? 'members' : 'record')
  leg.finishing = null
  run.out.push({ kind: 'left', leg, was, state, reason: member.reason })
  leaveRound(run, leg, 'not-written')
  rules.flushedForLog(run, leg)
  rules.flushedForStart(run, leg)
}

/**
 * The disk of a leg may have dropped what it could not write, and report that at the next flush
 * only. A leg that is being filled, even if it is away again, may have copied the old bytes from it
 * in between: it copies them once more. A leg that has the maps was copied to before the others
 * flushed, see `flushedCopies`.
 */
function distrust(run: Run, source: RunLeg, unflushed: Unflushed): void {
  for (const leg of run.legs)
    if (leg !== source && leg.stage !== 'in-sync' && leg.stage !== 'detached')
      leg.dirty?.missSet(unflushed)
}

/** A leg answered with an error. */
export function failed(run: Run, leg: RunLeg, work: Work, error: LegError): Verdict {
  if (error.code === 'FENCED') {
    end(run)
    run.out.push({ kind: 'fenced', message: error.message })
    return 'without-it'
  }
  const asked = work === 'metadata' ? run.keepers : run.writers
  if (!asked.includes(leg)) return 'without-it'
  if (work === 'read') return failedRead(run, leg, error)
  const verdict = onFailure(work, error.code, standingOf(run, leg))
  const reason = work === 'write' ? error.message : `${work}: ${error.message}`
  if (verdict === 'tell') return 'tell-client'
  if (verdict === 'suspend') suspend(run, leg, reason)
  else rules.leave(run, leg, { state: wordFor(error.code), reason, cache: 'kept' })
  return 'without-it'
}

/** Read errors after which a leg leaves. Each before is repaired from another leg. */
const readErrorsMax = 64

function failedRead(run: Run, leg: RunLeg, { code, message }: LegError): Verdict {
  if (unreachable.has(code)) goAway(run, leg, message)
  else {
    if (++leg.readErrors < readErrorsMax || rules.isLast(run, leg)) return 'repair'
    const reason = `too many read errors: ${message}`
    rules.leave(run, leg, { state: 'failed', reason, cache: 'kept' })
  }
  return 'without-it'
}

/** Ends the run; the volume starts anew. The reason names the leg. */
export function suspend(run: Run, leg: RunLeg, reason: string): void {
  end(run)
  run.out.push({ kind: 'suspend', reason: `${leg.name}: ${reason}` })
}

/** Ends the run: nothing that began in it goes any further. */
export function end(run: Run): void {
  run.word = 'ended'
  run.round = null
  run.waits = []
  run.works = []
  run.cleaning = null
  run.opening = null
  run.short = []
  run.inSync = run.writers = run.absent = run.keepers = run.readable = []
  for (const leg of run.legs) leg.coming = leg.finishing = null
}

/** The device of a leg that takes part has changed. */
export function device(run: Run, leg: RunLeg, now: DeviceNow): void {
  const { word, reason } = now
  if (leg.coming !== null && (word !== 'there' || now.bootId !== leg.coming.bootId)) {
    leg.coming = null
    run.out.push({ kind: 'not-back', leg, error: null })
  }
  if (!run.writers.includes(leg)) return
  if (word === 'fenced') failed(run, leg, 'read', { code: 'FENCED', message: reason })
  else if (word === 'there') {
    if (now.bootId !== leg.bootId) rules.restarted(run, leg, now)
  } else goAway(run, leg, reason)
}

/** The leg cannot be used now, and still has what it had. */
export function goAway(run: Run, leg: RunLeg, reason: string): void {
  if (!run.writers.includes(leg)) return
  if (rules.isLast(run, leg)) suspend(run, leg, reason)
  else rules.leave(run, leg, { state: 'missing', reason, cache: 'kept' })
}

/**
 * The leg is there, and has lost what it had not flushed: it restarted, or could not flush. If it
 * is the last one, writes under way may be lost as well: none of them may be acknowledged, and the
 * next start tells clients, because the record still has the old boot id.
 */
export function restarted(run: Run, leg: RunLeg, now: DeviceNow): void {
  const { bootId, reason, state, writing } = now
  const lost = run.log.hasSince(leg.flushedMoment)
  const standing = standingOf(run, leg)
  // Before the volume is served it may start from another leg, which has what was lost.
  const verdict = onCacheLoss({ lost, standing, writing: writing || run.word === 'starting' })
  if (verdict === 'leave') rules.leave(run, leg, { state, reason, cache: 'lost' })
  else if (verdict === 'suspend') suspend(run, leg, reason)
  else {
    leg.bootId = bootId
    leg.member!.bootId = bootId
    leg.dirty?.forgetCopies()
    if (verdict === 'tell') loseWithLast(run, leg, reason)
    request(run, 'record')
  }
}

/**
 * The last leg lost what it had not flushed. Its contents stay those of the volume; a leg that has
 * the lost writes all the same differs from it, and copies the old bytes back.
 */
export function loseWithLast(run: Run, last: RunLeg, reason: string): void {
  for (const { dirty } of run.legs)
    if (dirty !== null && dirty !== last.dirty)
      run.log.forEachSince(last.flushedMoment, (extent) => {
        dirty.set(extent)
      })
  run.out.push({ kind: 'lost', leg: last, reason })
}

/** Whether it is durable of no other leg that it is in sync: a crash would leave this one alone. */
export function isLast(run: Run, leg: RunLeg): boolean {
  return isInSync(leg) && !run.readable.some((one) => one !== leg)
}

function standingOf(run: Run, leg: RunLeg): Standing {
  if (!rules.isLast(run, leg)) return 'one-of-several'
  return run.inSync.length === 1 ? 'last' : 'last-so-far'
}
