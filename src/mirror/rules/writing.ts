import type { Run, RunLeg } from './run.ts'

/** The bytes of a write on its way, `rangeTo` not included. */
export interface Written {
  readonly rangeFrom: number
  readonly rangeTo: number
}

/** Notes that the leg may lack the write. */
export function missed({ dirty }: RunLeg, { rangeFrom, rangeTo }: Written): void {
  dirty?.miss(rangeFrom, rangeTo)
}

/** The write is about to go to the legs that take part: notes that all others lack it. */
export function begun(run: Run, write: Written): void {
  for (const leg of run.absent) missed(leg, write)
}

/**
 * The last leg failed the write and stays, and the client is told: notes that the others lack what
 * this one has. To be called at once, or a leg that is being filled could be in sync before the
 * write has settled.
 */
export function failedOnLast(run: Run, write: Written): void {
  for (const leg of run.legs) missed(leg, write)
}
