import type { Op } from './model.ts'

/** With two heads it matters which. */
export function nameHead(head: number): string {
  return head === 0 ? 'the head' : 'the other head'
}

export function nameOf(leg: number): string {
  return 'abc'[leg]!
}

export function nameOp({ kind, leg, job, extent, why }: Op): string {
  if (kind === 'save') return 'saving the record'
  const what =
    kind === 'write'
      ? `write ${job}`
      : kind === 'copy'
        ? `the copy of extent ${extent}`
        : kind === 'flush'
          ? `the flush (${why})`
          : `the ${kind}`
  return `${what} on ${nameOf(leg)}`
}
