import type { Snapshot } from './codec.ts'

/** What a head starts from. Legs are bits of a number. */
export interface Plan {
  record: Snapshot
  readonly present: number
  /** Whether only its own record says that no leg that is not there is newer. */
  readonly byOwnRecord: boolean
  /** Legs that show what they showed when it was decided. */
  seen: number
  /** Legs that have not answered the claim. */
  waits: number
  /** Whether another head had claimed a leg. */
  another: boolean
}

/** Claims are above a generation, and tell heads apart, and processes of a head. */
export function claimOf(step: number, head: number, life: number): number {
  return step * 8 + head * 4 + life
}

export function stepOf(claim: number): number {
  return claim >> 3
}

export function claimant(claim: number): number {
  return (claim >> 2) & 1
}

export function lifeOf(claim: number): number {
  return claim & 3
}
