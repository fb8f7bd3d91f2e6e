import type { Generation, Member, VolumeRecord } from '../record.ts'
import type { Effect, Returning } from './effects.ts'
import type { Written } from './writing.ts'

/**
 * What a leg is in a run:
 *
 *     absent ──returns──▶ syncing ──lacks nothing──▶ handing-over
 *       ──has the maps──▶ saving ──the record is durable──▶ in-sync
 *
 * From everywhere a leg that fails becomes absent, unless it is the last one in sync.
 */
export type Stage = 'in-sync' | 'saving' | 'handing-over' | 'syncing' | 'absent' | 'detached'

/** Which blocks of an extent are meant; null for all. Only the shell looks into it. */
export type Row = Uint8Array | null

/** What a leg had not flushed, as far as the rules look into it. */
export interface Unflushed {
  add(extent: number, row: Row): void
  readonly extents: { has(extent: number): boolean }
}

/** What a leg lacks, as far as the rules look into it. */
export interface Lacking {
  /** Whether there is anything that the leg lacks. */
  readonly any: boolean
  set(extent: number): void
  /** Bytes, `to` not included. */
  miss(from: number, to: number): void
  missSet(unflushed: Unflushed): void
  missFrom(unflushed: Unflushed, extent: number): void
  setAll(): void
  /** What was copied to the leg and not flushed is gone. */
  forgetCopies(): void
}

/** What the log of recent writes knows. */
export interface WriteLog {
  /** Rises with every write that settles. */
  readonly moment: number
  /** Whether anything was written after `moment`, or is being written. */
  hasSince(moment: number): boolean
  forEachSince(moment: number, found: (extent: number, row: Row) => void): void
  /** What was last written to at `moment` or before, and is not being written. */
  forEachIdle(moment: number, found: (extent: number) => void): void
}

/**
 * One leg, as far as the rules are concerned. While the run lasts only they change its stage; a
 * flush of a client (`Leg.hasFlushed`) and commands change something of the rest, by its methods.
 */
export interface RunLeg {
  readonly name: string
  member: Member | null
  stage: Stage
  /** Of a leg that is not in sync: what it lacks. */
  dirty: Lacking | null
  /** Of an absent leg: what it acknowledged and may lose if it restarts. */
  unflushed: Unflushed | null
  /** Writes settled before this moment are on its stable storage. */
  flushedMoment: number
  /** No later: those before this moment it cannot have lost unseen, not even if it was put back. */
  readonly safeMoment?: number
  /** Where a leg is marked: those before this moment its mark vouches for, see `marks.ts`. */
  readonly markedMoment?: number
  bootId: string
  /** Reads that it failed since it was last in sync. */
  readErrors: number
  /** Of a leg whose being in sync is saved: the version of the record that has to be durable. */
  announcedBy: number
  /** Of an absent leg that is about to get writes again. */
  coming: Coming | null
  /** Of a leg that was copied to: that is made durable, and it is perhaps about to be in sync. */
  finishing: Finishing | null
}

export interface Coming extends Returning {
  /** Waiting for: the maps; a record that is durable; its superblock. */
  phase: 'maps' | 'quiet' | 'stamp'
  /** What its superblock is about to say. */
  generation: Generation | null
}

export interface Finishing {
  phase: 'flush' | 'maps' | 'hand-over'
  /** Whether all was copied that the leg lacked, or what was so far is made durable. */
  readonly what: 'all' | 'some'
}

/** A map being written, or waiting for its turn. */
export interface MapWork<L extends RunLeg = RunLeg> {
  /** The log; what legs lack; what was copied to a leg and flushed; all maps, to one leg. */
  readonly what: 'log' | 'lacking' | 'copied' | 'all' | 'held'
  /** What goes on then: the writes that wait, a leg that returns, a number that the shell gave. */
  readonly then: 'log' | 'clean' | 'start' | L | number
  phase: 'waiting' | 'pages' | 'durable'
  /** Of the record, which must be durable before the pages count. */
  version: number
}

/** Extents on their way out of the log. */
export interface Cleaning<L extends RunLeg = RunLeg> {
  phase: 'flush' | 'maps' | 'durable'
  readonly moment: number
  version: number
  waits: readonly L[]
}

/** A run on its way to being served. */
export interface Opening<L extends RunLeg = RunLeg> {
  phase: 'maps' | 'flush' | 'durable'
  readonly what: 'record' | 'members'
  version: number
  waits: readonly L[]
}

/** The record on its way to the head's own store and then to the legs. */
export interface Round<L extends RunLeg = RunLeg> {
  /** Every change requested up to here is in it. */
  readonly version: number
  readonly generation: Generation
  phase: 'save' | 'superblocks' | 'base'
  /** Legs that are about to be in sync and may not show it yet: not all others do. */
  joining: readonly L[]
  /** Legs whose superblock is under way. */
  waits: readonly L[]
  /** Whether every leg could take it so far. */
  whole: boolean
}

/** Somebody who may not go on before a version of the record is durable. */
export interface Wait {
  readonly version: number
  /** A number that the shell gave: of a request, or of a procedure. */
  readonly id: number
  readonly who: 'request' | 'procedure'
}

/**
 * All that one run of a volume knows, from its start to the loss of its last leg. Plain data: the
 * rules change it, the shell reads it and carries out what is in `out`.
 */
export interface Run<L extends RunLeg = RunLeg> {
  word: 'starting' | 'running' | 'ended'
  readonly record: VolumeRecord
  readonly log: WriteLog
  readonly makeLacking: () => Lacking
  readonly makeUnflushed: () => Unflushed
  /** Calls back with every write that was begun and is neither acknowledged nor failed. */
  readonly forEachWrite: (found: (write: Written) => void) => void
  legs: readonly L[]
  /** So many legs must be in sync before anything is acknowledged. */
  minInSync: number

  /** Replaced, never changed, by `regroup`: who is in sync; who gets writes; who lacks them. */
  inSync: readonly L[]
  writers: readonly L[]
  absent: readonly L[]
  /** Who has metadata: those in sync and those about to be. */
  keepers: readonly L[]
  /** In sync, and durably so: who is read from. */
  readable: readonly L[]

  /** Changes of the record that were requested, and how many of them are durable. */
  requested: number
  durable: number
  newGeneration: boolean
  round: Round<L> | null
  waits: Wait[]
  works: MapWork<L>[]
  cleaning: Cleaning<L> | null
  opening: Opening<L> | null
  /** Requests that have settled and wait for more legs to be in sync. */
  short: number[]
  /** What is to be carried out, in this order. The shell takes it. */
  out: Effect<L>[]
}

/** Whether a change was requested that is not durable yet. */
export function isPending(run: Run): boolean {
  return run.durable !== run.requested
}

/** A run that is about to start. `legs` have their members and stages. */
export function createRun<L extends RunLeg>(
  what: Pick<
    Run<L>,
    'record' | 'log' | 'makeLacking' | 'makeUnflushed' | 'forEachWrite' | 'legs' | 'minInSync'
  >,
): Run<L> {
  const run: Run<L> = {
    ...what,
    word: 'starting',
    inSync: [],
    writers: [],
    absent: [],
    keepers: [],
    readable: [],
    requested: 0,
    durable: 0,
    newGeneration: false,
    round: null,
    waits: [],
    works: [],
    cleaning: null,
    opening: null,
    short: [],
    out: [],
  }
  regroup(run)
  return run
}

/** Sorts the legs anew after a stage has changed. */
export function regroup(run: Run): void {
  const { legs } = run
  run.inSync = legs.filter(isInSync)
  run.writers = legs.filter((leg) => leg.stage !== 'absent' && leg.stage !== 'detached')
  run.absent = legs.filter(
    (leg) => leg.dirty !== null && (leg.stage === 'absent' || leg.stage === 'detached'),
  )
  run.keepers = legs.filter((leg) => isInSync(leg) || leg.stage === 'handing-over')
  run.readable = legs.filter((leg) => leg.stage === 'in-sync')
  run.out.push({ kind: 'regrouped' })
}

export function isInSync({ stage }: RunLeg): boolean {
  return stage === 'in-sync' || stage === 'saving'
}

/** Whether the leg's superblock may say that it is in sync, if legs are told so. */
export function mayShowInSync({ keepers, round }: Run, leg: RunLeg): boolean {
  return keepers.includes(leg) && (leg.stage !== 'saving' || round?.joining.includes(leg) === false)
}

export function isOver({ word }: Run): boolean {
  return word === 'ended'
}

/** Of a volume that does not run. */
export function noRun<L extends RunLeg>(): Run<L> {
  const log: WriteLog = {
    moment: 0,
    hasSince: () => false,
    forEachSince: () => undefined,
    forEachIdle: () => undefined,
  }
  const nothing = (): never => {
    throw new Error('a volume that does not run lacks nothing')
  }
  const record = null as unknown as VolumeRecord
  const run = createRun<L>({
    record,
    log,
    legs: [],
    minInSync: 1,
    makeLacking: nothing,
    makeUnflushed: nothing,
    forEachWrite: nothing,
  })
  return { ...run, word: 'ended' }
}
