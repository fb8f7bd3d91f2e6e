import type { Op } from './model.ts'

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
