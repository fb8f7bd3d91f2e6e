import type { Run, RunLeg } from './run.ts'

/** A write on its way, as far as the rules are concerned: its bytes, `rangeTo` not included. */
export interface Written {
  readonly rangeFrom: number
  readonly rangeTo: number
}

/** The leg may lack the write. */
export function missed({ dirty }: RunLeg, { rangeFrom, rangeTo }: Written): void {
  dirty?.miss(rangeFrom, rangeTo)
}

/** The write is about to go to the legs that take part; the others lack it. */
export function begun(run: Run, write: Written): void {
  for (const leg of run.absent) missed(leg, write)
}

/**
 * The last leg failed the write, stays, and the client is told: the others lack what the leg has.
 * At once, or one that is being filled could be in sync before the write has settled.
 */
export function failedOnLast(run: Run, write: Written): void {
  for (const leg of run.legs) missed(leg, write)
}
