import { reasonMax } from '../record.ts'
import type { LegError, Returning } from './effects.ts'
import { writeMaps } from './maps.ts'
import { request } from './rounds.ts'
import { regroup, type Coming, type MapWork, type Run, type RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * A leg returns in this order; what comes later never before what comes earlier is on disk:
 *
 *     what it lacks is in the maps → its superblock says that it is being filled → it gets writes
 *     → all is copied, and flushed → it has the maps → the record says that it is in sync
 *     → it is read
 */

/** Begins the return of a leg that is there again. */
export function begin(run: Run, leg: RunLeg, how: Returning): void {
  if (leg.stage !== 'absent' && leg.stage !== 'detached') {
    run.out.push({ kind: 'not-back', leg, error: null })
    return
  }
  const dirty = (leg.dirty ??= run.makeLacking())
  if (how.copy === 'full') dirty.setAll()
  else if (how.bootId !== leg.member!.bootId || how.restarted === true) {
    dirty.forgetCopies()
    if (leg.unflushed !== null) dirty.missSet(leg.unflushed)
  }
  leg.coming = { ...how, phase: 'maps', generation: null }
  // What the leg lacks must be on disk before anything says that this is all it lacks.
  writeMaps(run, 'lacking', leg)
}

/** Maps were written for a leg that returns. */
export function mapsOfLeg(run: Run, leg: RunLeg, what: MapWork['what']): void {
  const { coming, finishing } = leg
  if (what === 'lacking') {
    // If the leg went away and came back once more, only later pages say what it missed.
    const later = run.works.some((work) => work.what === 'lacking' && work.then === leg)
    if (coming?.phase === 'maps' && !later) coming.phase = 'quiet'
  } else if (what === 'all') rules.handedOver(run, leg)
  else if (finishing?.phase === 'maps') {
    if (finishing.what === 'all') {
      finishing.phase = 'hand-over'
      writeMaps(run, 'all', leg)
    } else {
      leg.finishing = null
      run.out.push({ kind: 'copies-saved', leg })
    }
  }
}

/**
 * Has the superblock of a returning leg say that it is being filled, once the whole record is
 * durable.
 */
export function stampQuiet(run: Run): void {
  for (const leg of run.legs) {
    if (leg.coming?.phase !== 'quiet' || !rules.isQuiet(run)) continue
    leg.coming.phase = 'stamp'
    leg.coming.generation = run.record.generation
    run.out.push({ kind: 'stamp', leg })
  }
}

/** The leg's superblock says that it is being filled: from now on it gets every write. */
export function stamped(run: Run, leg: RunLeg, error: LegError | null): void {
  const { coming } = leg
  if (coming?.phase !== 'stamp') return
  leg.coming = null
  if (error?.code === 'FENCED') rules.failed(run, leg, 'metadata', error)
  else if (error !== null) run.out.push({ kind: 'not-back', leg, error })
  else {
    const was = leg.member!.state
    rejoin(run, leg, coming)
    run.out.push({ kind: 'back', leg, was, how: coming })
  }
}

function rejoin(run: Run, leg: RunLeg, { generation, bootId, cause }: Coming): void {
  const member = leg.member!
  // If the leg kept its cache this is still true, and may yet be lost with the cache.
  if (bootId !== member.bootId) leg.unflushed = null
  // From here on it is known what the leg lacks, even if its generation is forgotten meanwhile.
  member.left = generation
  member.bootId = bootId
  leg.bootId = bootId
  leg.readErrors = 0
  leg.stage = 'syncing'
  member.state = 'syncing'
  member.reason = cause.slice(0, reasonMax)
  request(run, 'record')
  regroup(run)
}

/** All that the leg lacked was copied, or some of it: it is flushed first. */
export function copied(run: Run, leg: RunLeg, what: 'all' | 'some'): void {
  if (leg.stage !== 'syncing' || leg.finishing !== null) return
  leg.finishing = { phase: 'flush', what }
  run.out.push({ kind: 'flush', leg, why: 'copied' })
}

/** What was copied is on the leg's stable storage: now the maps may say so. */
export function flushedCopies(run: Run, leg: RunLeg): void {
  if (leg.finishing?.phase !== 'flush') return
  leg.finishing.phase = 'maps'
  writeMaps(run, 'copied', leg)
}

/** The leg has the maps. If it missed nothing meanwhile, it is in sync once that is durable. */
export function handedOver(run: Run, leg: RunLeg): void {
  if (leg.stage !== 'handing-over') return
  leg.finishing = null
  if (leg.dirty!.any) {
    leg.stage = 'syncing'
    run.out.push({ kind: 'copy-again', leg })
  } else {
    leg.stage = 'saving'
    run.out.push({ kind: 'joining', leg })
    request(run, 'members')
    leg.announcedBy = run.requested
  }
  regroup(run)
}
