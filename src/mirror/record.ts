/** What a leg can be; the words of `status`. */
export const legStates = ['in-sync', 'syncing', 'missing', 'detached', 'failed'] as const
export type LegState = (typeof legStates)[number]

/** Which version of a volume's membership; two with one counter and different ids are a split. */
export interface Generation {
  readonly counter: number
  /** 16 hex digits of chance. */
  readonly id: string
}

/** What the volume remembers of one leg. */
export interface Member {
  /** 32 hex digits, given when the leg was formatted. */
  id: string
  name: string
  state: LegState
  reason: string
  /** Wall clock, milliseconds. */
  since: number
  /** Which dirty map on the other legs is about this one. */
  slot: number
  /** The generation it was last in sync with; its dirty map is complete since then. */
  left: Generation | null
  /** Bytes of the leg: where its metadata end. */
  size: number
  /** `Facts.bootId` of the leg when it was last seen. */
  bootId: string
  /** Of a detached leg: the name given, the moment, and the content's stamp at that moment. */
  label: string | null
  stamp: string | null
}

/** The volume's memory: in every superblock and in the head's own record. */
export interface VolumeRecord {
  /** 32 hex digits. */
  volume: string
  generation: Generation
  /** The newest generation complete on every leg in sync: members at it or later are whole. */
  base: Generation
  /** Generations before, newest first. */
  history: Generation[]
  /** `Facts.bootId` of the mirror. */
  bootId: string
  extentSize: number
  dataSize: number
  blockSize: number
  /** Dirty maps on each leg. */
  slots: number
  members: Member[]
  /** A range that must be zeroed on every leg before the volume is served: a growth under way. */
  zeroing: { from: number; to: number } | null
  entries: HistoryEntry[]
}

export type HistoryKind = 'membership' | 'resync' | 'verify' | 'operator' | 'start'

/** One line of `dst volume history`. */
export interface HistoryEntry {
  /** Rises by one. */
  readonly number: number
  /** Wall clock, milliseconds. */
  readonly at: number
  readonly kind: HistoryKind
  /** The leg it is about, '' for the volume. */
  readonly leg: string
  /** A sentence for people: what happened and why. */
  readonly text: string
  readonly generation: number
  /** Of a resync or verify, once it ended. */
  readonly resync?: ResyncSummary
}

export interface ResyncSummary {
  /** partial: its dirty map. full: everything. crash: extents in the intent log. */
  readonly kind: 'partial' | 'full' | 'crash' | 'verify'
  readonly cause: string
  readonly source: string
  readonly bytes: number
  readonly milliseconds: number
  readonly outcome: string
}
