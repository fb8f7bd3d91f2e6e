import { formatSize } from '../../src/base/size.ts'

/** What a client does over and over. */
export type Pattern = 'randread' | 'randwrite' | 'read' | 'write' | 'randrw'

export const patterns: readonly Pattern[] = ['randread', 'randwrite', 'read', 'write', 'randrw']

/** Reads of a hundred operations of the mixed pattern. */
export const mixedReads = 70

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

/** What one round of one work against one server gave. */
export interface Round {
  /** Which round: what others did in the same one is held against it. */
  readonly round: number
  readonly operations: number
  readonly bytes: number
  readonly seconds: number
  /** Latency in nanoseconds; null where the client did not tell. */
  readonly p50: number | null
  readonly p99: number | null
  readonly p999: number | null
  /** Processor time of the server under test alone, in nanoseconds. */
  readonly cpu: number
  /** Peak memory of the server so far. */
  readonly peakBytes: number
}
