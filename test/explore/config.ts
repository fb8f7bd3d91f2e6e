/** What may go wrong. */
export const faultKinds = [
  /** A leg restarts within the hold: what it had not flushed may be gone, nobody saw it away. */
  'restart',
  /** A leg cannot be reached, for as long as it takes. */
  'away',
  /** A leg that is away loses power. */
  'cut',
  /** A flush fails, and what it was to write may be gone. */
  'flush',
  /** A write, a copy, a map or a superblock fails. */
  'error',
  /** A leg does not answer for too long; what is under way lands later. */
  'silent',
  /** The head's own store cannot be written for too long. */
  'store',
  /** The head dies; what it had under way lands later, or never. */
  'crash',
  /** Everything loses power at once. */
  'blackout',
] as const
export type FaultKind = (typeof faultKinds)[number]

/** What is explored. */
export interface Configuration {
  /** The second one, with a store of its own that is empty, may start at any time. */
  readonly heads: 1 | 2
  readonly legs: number
  readonly extents: number
  /** What clients do, in any order: so many writes, so many flushes, so many of them at once. */
  readonly writes: number
  readonly flushes: number
  readonly width: number
  /** How often extents that are not written to may leave the log. */
  readonly cleanings: number
  /** How often what was copied so far may be made durable before all is. */
  readonly checkpoints: number
  readonly minInSync: number
  readonly faults: number
  readonly kinds: ReadonlySet<FaultKind>
  /** Whether a forced write flushes all that a leg has in its cache. */
  readonly forcedFlushes: boolean
  /** Whether states that differ in nothing that anybody can tell are one, and so on. */
  readonly reduce: boolean
}

export const defaults: Configuration = {
  heads: 1,
  legs: 2,
  extents: 1,
  writes: 2,
  flushes: 1,
  width: 2,
  cleanings: 1,
  checkpoints: 0,
  minInSync: 1,
  faults: 1,
  kinds: new Set(faultKinds),
  forcedFlushes: false,
  reduce: true,
}
