import type { Code } from '../../base/errors.ts'
import type { Generation, LegState } from '../record.ts'
import type { MapWork, RunLeg } from './run.ts'

/** Why the rules have a leg flushed. */
export type FlushReason = 'copied' | 'clean' | 'start'

/** What the rules want done. */
export type Effect<L extends RunLeg = RunLeg> =
  /**
   * Save `Run.record`, as it is now, in the head's own store; then tell `saved`. From then on legs
   * are told that the legs of `joining` are in sync, see `withInSync`.
   */
  | { readonly kind: 'save'; readonly version: number; readonly joining: readonly L[] }
  /** Save the record that legs were told, with another base; then tell `saved`. */
  | { readonly kind: 'save-base'; readonly version: number; readonly base: Generation }
  /** Write `Run.record`, as legs are told it, to the leg; then tell `superblock`. */
  | { readonly kind: 'superblock'; readonly leg: L; readonly version: number }
  /** Write `Run.record` to the leg, with the leg as syncing; then tell `stamped`. */
  | { readonly kind: 'stamp'; readonly leg: L }
  /**
   * Write pages of maps as they are now to all `keepers`, `all` to its leg; then tell `maps`.
   * `held`: the procedure of this number has the maps to itself.
   */
  | { readonly kind: 'maps'; readonly work: MapWork<L> }
  /** Flush the leg; then tell `flushed`. */
  | { readonly kind: 'flush'; readonly leg: L; readonly why: FlushReason }
  /** The leg left: stop waiting for what is under way on it, and copying to it. */
  | {
      readonly kind: 'left'
      readonly leg: L
      readonly was: LegState
      readonly state: LegState
      readonly reason: string
    }
  /** The leg gets writes: copy to it what it lacks; then tell `copied`. */
  | { readonly kind: 'back'; readonly leg: L; readonly was: LegState; readonly how: Returning }
  /** Copy to the leg again: it missed something while it got the maps. */
  | { readonly kind: 'copy-again'; readonly leg: L }
  /** The maps on disk say that the leg has what was copied so far. */
  | { readonly kind: 'copies-saved'; readonly leg: L }
  /** The leg lacks nothing: that is about to be saved. */
  | { readonly kind: 'joining'; readonly leg: L }
  /** The leg could not come back; null: its device has changed, look at it again. */
  | { readonly kind: 'not-back'; readonly leg: L; readonly error: LegError | null }
  /** The leg is durably in sync. */
  | { readonly kind: 'in-sync'; readonly leg: L }
  /** The groups of legs have changed. */
  | { readonly kind: 'regrouped' }
  /** The pages of the log written last count: let the writes go on that wait for them. */
  | { readonly kind: 'logged' }
  /**
   * Take what was last written to at `moment` or before out of the log; 0: nothing may leave it.
   */
  | { readonly kind: 'cleaned'; readonly moment: number }
  /** The request or procedure that waited under this number may go on. */
  | { readonly kind: 'release'; readonly id: number }
  /** The request waits until more legs are in sync. */
  | { readonly kind: 'short'; readonly id: number }
  /** The volume runs. */
  | { readonly kind: 'started' }
  /** What clients wrote and did not flush is gone: the boot id of the volume must tell them. */
  | { readonly kind: 'lost'; readonly leg: L; readonly reason: string }
  /** The run is over. Requests wait for the next one. */
  | { readonly kind: 'suspend'; readonly reason: string }
  /** The run is over, and there will be none: a newer head has the legs. */
  | { readonly kind: 'fenced'; readonly message: string }

/** The operation that a leg answered with an error. */
export type Work = 'read' | 'write' | 'flush' | 'metadata'

/** What has happened. */
export type Event<L extends RunLeg = RunLeg> =
  /** Serve the volume once it is durable which legs are in sync. */
  | { readonly kind: 'start'; readonly what: 'record' | 'members' }
  /** Everything that happens at once is done: a round may begin. */
  | {
      readonly kind: 'turn'
      /** The id for a new generation of that round, and the counter it must be above. */
      readonly generationId: string
      readonly floor: number
    }
  /** The record was changed; `members`: and with it which legs are in sync. */
  | { readonly kind: 'changed'; readonly what: 'record' | 'members' }
  /** The head's own store has the record. */
  | { readonly kind: 'saved'; readonly version: number }
  /** The leg has the record, unless there was an error. */
  | {
      readonly kind: 'superblock'
      readonly leg: L
      readonly version: number
      readonly error: LegError | null
    }
  /** Every leg has the map that was to be written, or left. */
  | { readonly kind: 'maps'; readonly outcome: 'whole' | 'not-all' }
  /** Writes wait for pages of the log, or changed pages are to be written. */
  | { readonly kind: 'log' }
  /** Write a map, or keep all others from being written; then release `id`. */
  | { readonly kind: 'write'; readonly what: 'log' | 'lacking' | 'held'; readonly id: number }
  /** Every leg that takes part has answered a request, or left. */
  | { readonly kind: 'settled'; readonly id: number }
  /** A procedure waits until all that was requested is durable. */
  | { readonly kind: 'wait'; readonly id: number }
  /** A leg answered with an error. */
  | { readonly kind: 'failed'; readonly leg: L; readonly work: Work; readonly error: LegError }
  /** The device of a leg was exchanged, or its state has changed. */
  | { readonly kind: 'device'; readonly leg: L; readonly now: DeviceNow }
  /** A leg has not answered for too long. */
  | { readonly kind: 'silent'; readonly leg: L; readonly reason: string }
  /** A flush of the leg ended: all that had settled before `moment` is on its stable storage. */
  | {
      readonly kind: 'flushed'
      readonly leg: L
      readonly why: FlushReason | 'client'
      readonly moment: number
      readonly error: LegError | null
    }
  /** What was last written to at `moment` or before should leave the log. */
  | { readonly kind: 'clean'; readonly moment: number }
  /** An absent leg may come back. */
  | { readonly kind: 'return'; readonly leg: L; readonly how: Returning }
  /** The superblock of the leg says that it is being filled, unless there was an error. */
  | { readonly kind: 'stamped'; readonly leg: L; readonly error: LegError | null }
  /** All that the leg lacked was copied to it, or some of it, which is to be made durable. */
  | { readonly kind: 'copied'; readonly leg: L; readonly what: 'all' | 'some' }
  /** An operator takes a leg out. */
  | {
      readonly kind: 'take-out'
      readonly leg: L
      readonly state: LegState
      readonly reason: string
    }
  /** Legs were added or removed. */
  | { readonly kind: 'legs'; readonly legs: readonly L[]; readonly minInSync: number }
  /** The run is over for a reason outside the rules. */
  | { readonly kind: 'ended' }

export interface LegError {
  readonly code: Code
  readonly message: string
}

/** The state of a leg's device now. */
export interface DeviceNow {
  readonly word: 'there' | 'away' | 'exchanged' | 'fenced'
  readonly bootId: string
  /** The state that the leg gets if it leaves because of this. */
  readonly state: 'missing' | 'failed'
  /** Whether a write is under way, or waits for something before it is acknowledged. */
  readonly writing: boolean
  /** Why, for people. */
  readonly reason: string
}

/** How a leg comes back. */
export interface Returning {
  readonly copy: 'partial' | 'full'
  readonly bootId: string
  /**
   * Whether the leg's target restarted since the leg took part, and the disk may have been put back
   * meanwhile.
   */
  readonly restarted?: boolean
  /** Why it has to be filled, for people. */
  readonly cause: string
}
