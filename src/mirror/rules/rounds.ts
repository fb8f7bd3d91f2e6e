import {
  counterAfter,
  historyGenerationsMax,
  inSync,
  sameGeneration,
  type Generation,
  type VolumeRecord,
} from '../record.ts'
import type { Event, LegError } from './effects.ts'
import { isOver, isPending, regroup, type Round, type Run, type RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * Changes of the record become durable in rounds, one at a time. The record goes to the head's own
 * store first, then to the superblock of every leg in sync, then to those of the legs that join.
 * Then the own store notes that all of them have the new generation (the base), and at last the
 * next superblocks say so: in a generation of which a leg does not say so nothing was acknowledged,
 * see `forks.ts`. A leg whose superblock cannot be written leaves, which is another change, and the
 * round is repeated. What waits for the round goes on only at its end.
 *
 * So the own store is the first to know that a leg is out of sync, and the last to know, with the
 * base, that one is in sync. The leg itself shows that only once all others do: a head that starts
 * from this leg, by what it shows or by an own record, leaves no other leg from which another head
 * could start without it. And no leg joins in a generation that is a base already. That shows when
 * an own record says less than the legs do, see `isUnheard` in `decision.ts`.
 */

/** Notes that the record was changed; `members`: and with it which legs are in sync. */
export function request(run: Run, what: 'record' | 'members'): void {
  run.requested++
  if (what === 'members') run.newGeneration = true
}

/** Begins a round, if a change waits for one. */
export function beginRound(run: Run, turn: Extract<Event, { kind: 'turn' }>): void {
  if (run.round !== null || !isPending(run)) return
  const { record } = run
  const joining = run.legs.filter(({ stage }) => stage === 'saving')
  // A round that is repeated may have the generation of one that ended in the middle.
  if (run.newGeneration || joining.length > 0) {
    run.newGeneration = false
    advance(record, turn.generationId, turn.floor)
  }
  const version = run.requested
  const { generation } = record
  run.round = { version, generation, phase: 'save', joining, waits: [], whole: true }
  run.out.push({ kind: 'save', version, joining })
}

/**
 * Makes the next generation, for another membership; `id` and `floor` keep it different from those
 * of all other heads.
 */
export function advance(record: VolumeRecord, id: string, floor: number): void {
  record.history.unshift(record.generation)
  record.history.length = Math.min(record.history.length, historyGenerationsMax)
  record.generation = { counter: counterAfter(Math.max(record.generation.counter, floor)), id }
}

/** The head's own store has the record, or its base: the legs are next. */
export function saved(run: Run, version: number): void {
  const { round } = run
  if (round?.version !== version) return
  if (round.phase === 'superblocks') return
  round.phase = 'superblocks'
  round.waits = run.keepers.filter((leg) => !round.joining.includes(leg))
  writeSuperblocks(run, round)
}

function writeSuperblocks(run: Run, { version, waits }: Round): void {
  for (const leg of waits) run.out.push({ kind: 'superblock', leg, version })
  if (waits.length === 0) endRound(run)
}

/** The leg's superblock is on stable storage, or the leg cannot take it. */
export function superblock(run: Run, leg: RunLeg, version: number, error: LegError | null): void {
  const { round } = run
  if (round?.version !== version || !round.waits.includes(leg)) return
  // If the leg leaves, `leave` takes it out of the round.
  if (error !== null) rules.failed(run, leg, 'metadata', error)
  if (!isOver(run)) leaveRound(run, leg, error === null ? 'written' : 'not-written')
}

/**
 * The round waits for the leg no longer. If the record was not written to the leg there is another
 * round.
 */
export function leaveRound(run: Run, leg: RunLeg, outcome: 'written' | 'not-written'): void {
  const { round } = run
  if (round === null) return
  const { phase, waits, joining } = round
  // A leg that leaves while the record is saved may be in sync by it, and would be by its base.
  const isConcerned = phase === 'save' || waits.includes(leg) || joining.includes(leg)
  if (outcome === 'not-written' && isConcerned) round.whole = false
  if (!round.waits.includes(leg)) return
  round.waits = round.waits.filter((one) => one !== leg)
  if (round.waits.length === 0) endRound(run)
}

/** Every leg that the record was written to has it, or left. */
function endRound(run: Run): void {
  const round = run.round!
  const { version, generation, joining, whole } = round
  if (!whole) run.round = null
  else if (joining.length > 0) {
    round.joining = []
    round.waits = joining
    writeSuperblocks(run, round)
  } else if (!rules.needsBase(run, generation)) finishRound(run)
  else {
    // This must be durable before anything is acknowledged in the generation: a leg in sync that
    // shows an older one was put back.
    round.phase = 'base'
    run.record.base = generation
    run.out.push({ kind: 'save-base', version, base: generation })
  }
}

/** Whether the head's own store does not say yet that every leg in sync has this generation. */
export function needsBase({ record }: Run, generation: Generation): boolean {
  return !sameGeneration(record.base, generation)
}

function finishRound(run: Run): void {
  run.durable = run.round!.version
  run.round = null
  rules.madeDurable(run)
}

/** More of the record is durable: legs become in sync, and what waited for it goes on. */
export function madeDurable(run: Run): void {
  const announced = run.legs.filter(
    ({ stage, announcedBy }) => stage === 'saving' && announcedBy <= run.durable,
  )
  for (const leg of announced) announceInSync(run, leg)
  if (announced.length > 0) regroup(run)
  const ready = run.waits.filter(({ version }) => version <= run.durable)
  run.waits = run.waits.filter(({ version }) => version > run.durable)
  rules.goOn(run, ready)
}

function announceInSync(run: Run, leg: RunLeg): void {
  Object.assign(leg.member!, inSync)
  leg.stage = 'in-sync'
  leg.dirty = null
  run.out.push({ kind: 'in-sync', leg })
}
