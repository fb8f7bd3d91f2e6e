import { formatSize } from '../../src/base/size.ts'

/** What a client does over and over. */
export const patterns = ['randread', 'randwrite', 'read', 'write'] as const
export type Pattern = (typeof patterns)[number]

export interface Work {
  readonly pattern: Pattern
  /** Bytes of each operation. */
  readonly blockSize: number
  /** Operations in flight. */
  readonly depth: number
  /** Connections that each have `depth` operations in flight; 1 if it does not say. */
  readonly connections?: number
}

/** `randread 4K ×32`: the key of a row, too. */
export function nameOf(work: Work): string {
  const { pattern, blockSize, depth, connections = 1 } = work
  const each = connections === 1 ? '' : ` on ${connections} connections`
  return `${pattern} ${formatSize(blockSize)} ×${depth}${each}`
}

export function readsOnly({ pattern }: Work): boolean {
  return pattern.endsWith('read')
}

/** What a client saw of one round. */
export interface Seen {
  readonly operations: number
  readonly bytes: number
  readonly seconds: number
  /** Latency in nanoseconds; null where the client did not tell. */
  readonly p50: number | null
  readonly p99: number | null
  readonly p999: number | null
}

/** What one round of one work against one server gave. */
export interface Round extends Seen {
  /** Which round: what others did in the same one is held against it. */
  readonly round: number
  /** Processor time of the server under test alone, in nanoseconds. */
  readonly cpu: number
  /** Peak memory of the server so far. */
  readonly peakBytes: number
}

export interface Client {
  /**
   * Runs `work` for `seconds` on one server after the other, and resolves with the figures of each,
   * in order, or with the error of a server that failed. Rejects when the client itself failed, and
   * always comes to an end.
   */
  drive(uris: readonly string[], work: Work, seconds: number): Promise<(Seen | Error)[]>
}
