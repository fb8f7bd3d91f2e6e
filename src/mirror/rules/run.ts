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

/** A bit for each block of an extent that is meant; null for all. Only the shell looks into it. */
export type Row = Uint8Array | null

/** The writes that a leg had not flushed, as far as the rules look into them. */
export interface Unflushed {
  add(extent: number, row: Row): void
  readonly extents: { has(extent: number): boolean }
}

/** The extents that a leg lacks, as far as the rules look into them. */
export interface Lacking {
  /** Whether the leg lacks anything. */
  readonly any: boolean
  set(extent: number): void
  /** In bytes, `to` not included. */
  miss(from: number, to: number): void
  missSet(unflushed: Unflushed): void
  missFrom(unflushed: Unflushed, extent: number): void
  setAll(): void
  /** Notes that what was copied to the leg and not flushed is gone. */
  forgetCopies(): void
}

/** The log of recent writes, as far as the rules look into it. */
export interface WriteLog {
  /** Rises with every write that settles. */
  readonly moment: number
  /** Whether anything was written after `moment`, or is being written. */
  hasSince(moment: number): boolean
  forEachSince(moment: number, found: (extent: number, row: Row) => void): void
  /** Calls back with every extent last written to at `moment` or before, and not being written. */
  forEachIdle(moment: number, found: (extent: number) => void): void
}

/**
 * One leg, as far as the rules are concerned. While the run lasts only they change its stage.
 * Flushes of clients (`Leg.hasFlushed`) and commands change some other fields, through its methods.
 */
export interface RunLeg {
  readonly name: string
  member: Member | null
  stage: Stage
  /** What the leg lacks while it is not in sync; null if it lacks nothing. */
  dirty: Lacking | null
  /** What an absent leg acknowledged and may lose if it restarts; null if nothing. */
  unflushed: Unflushed | null
  /** Writes settled before this moment are on the leg's stable storage. */
  flushedMoment: number
  /**
   * At most `flushedMoment`: writes before this moment the leg cannot have lost unseen, not even if
   * its disk was put back to an earlier state.
   */
  readonly safeMoment?: number
  /** On a leg with a mark: the mark vouches for writes before this moment, see `marks.ts`. */
  readonly markedMoment?: number
  bootId: string
  /** Reads that the leg failed since it was last in sync. */
  readErrors: number
  /**
   * While the leg is `saving`: the version of the record that must be durable to make it in sync.
   */
  announcedBy: number
  /** Set while an absent leg is about to get writes again. */
  coming: Coming | null
  /** Set while what was copied to the leg is made durable, after which it is perhaps in sync. */
  finishing: Finishing | null
}

export interface Coming extends Returning {
  /** What the leg waits for: the maps; a record that is durable; its superblock. */
  phase: 'maps' | 'quiet' | 'stamp'
  /** The generation that its superblock is about to say; null before that is known. */
  generation: Generation | null
}

export interface Finishing {
  phase: 'flush' | 'maps' | 'hand-over'
  /** `all`: everything that the leg lacked was copied; `some`: a part, which is made durable. */
  readonly what: 'all' | 'some'
}

/** A map being written, or waiting for its turn. */
export interface MapWork<L extends RunLeg = RunLeg> {
  /**
   * The log; what legs lack; what was copied to a leg and flushed; all maps, to one leg; or none,
   * to keep all others from being written.
   */
  readonly what: 'log' | 'lacking' | 'copied' | 'all' | 'held'
  /**
   * What goes on afterwards: the writes that wait, a leg that returns, or a number that the shell
   * gave.
   */
  readonly then: 'log' | 'clean' | 'start' | L | number
  phase: 'waiting' | 'pages' | 'durable'
  /** The version of the record that must be durable before the pages count. */
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

/** A request or a procedure that waits until a version of the record is durable. */
export interface Wait {
  readonly version: number
  /** The number that the shell gave to the request or procedure. */
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
  /** How many legs must be in sync before anything is acknowledged. */
  minInSync: number

  /**
   * Groups of legs, which `regroup` replaces and never changes: those in sync; those that get
   * writes; those that lack them.
   */
  inSync: readonly L[]
  writers: readonly L[]
  absent: readonly L[]
  /** Legs that have metadata: those in sync and those about to be. */
  keepers: readonly L[]
  /** Legs that may be read: in sync, and durably so. */
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
  /** Effects to be carried out, in this order. The shell takes them. */
  out: Effect<L>[]
}

/** Whether a change was requested that is not durable yet. */
export function isPending(run: Run): boolean {
  return run.durable !== run.requested
}

/** Makes a run that is about to start. `legs` have their members and stages. */
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

/** Whether the leg is in sync, durably or about to be. */
export function isInSync({ stage }: RunLeg): boolean {
  return stage === 'in-sync' || stage === 'saving'
}

/** Whether the leg's superblock may say that the leg is in sync. */
export function mayShowInSync({ keepers, round }: Run, leg: RunLeg): boolean {
  return keepers.includes(leg) && (leg.stage !== 'saving' || round?.joining.includes(leg) === false)
}

/** Whether the run has ended. */
export function isOver({ word }: Run): boolean {
  return word === 'ended'
}

/** The run of a volume that does not run: ended from the beginning. */
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
