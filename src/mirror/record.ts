import { isObject, isPowerOfTwo, isSize } from '../base/guards.ts'
import { extentSizeMax, extentSizeMin, extentsMax } from './layout.ts'

/** The states of a leg; the words of `status`. */
export const legStates = ['in-sync', 'syncing', 'missing', 'detached', 'failed'] as const
export type LegState = (typeof legStates)[number]

/** A version of a volume's membership. Two with one counter and different ids are a split. */
export interface Generation {
  readonly counter: number
  /** 16 random hex digits. */
  readonly id: string
}

/** What the record says of one leg. */
export interface Member {
  /** 32 hex digits, given when the leg was formatted. */
  id: string
  name: string
  state: LegState
  reason: string
  /** Since when the leg is in this state: wall clock, milliseconds. */
  since: number
  /** The number of the dirty map on the other legs that is about this one. */
  slot: number
  /** The generation with which the leg was last in sync; its dirty map is complete since then. */
  left: Generation | null
  /** The byte where the leg's metadata end. */
  size: number
  /**
   * The byte, further on, where they may end instead: the leg has grown, and nothing was written
   * there before this was durable. Absent unless they are being moved.
   */
  movesTo?: number
  /** A serial that its superblock had for certain; records of older versions have none. */
  mark?: number
  /**
   * The generation of that superblock, and its serial again: an older version raises the mark alone
   * and leaves what it does not know. Records of older versions do not say.
   */
  markedIn?: Generation & { readonly serial?: number }
  /** `Facts.bootId` of the leg when it was last seen. */
  bootId: string
  /**
   * `Facts.identity` of the leg when it was last written to; records of older versions have none.
   */
  identity?: string
  /** Whether a leg that is not in sync was to be copied whole since it left. Absent means no. */
  whole?: boolean
  /**
   * The name given to a detached leg, and the stamp of its content at that moment; null otherwise.
   */
  label: string | null
  stamp: string | null
}

/** The volume's memory: in every superblock and in the head's own record. */
export interface VolumeRecord {
  /** 32 hex digits. */
  volume: string
  generation: Generation
  /**
   * The newest generation that is complete on every leg in sync: members at it or later are whole.
   */
  base: Generation
  /** Earlier generations, newest first. */
  history: Generation[]
  /**
   * The generation at which an operator last had it start with `--force`, though legs could be
   * newer; null if never. Records of older versions do not say.
   */
  forcedAt?: Generation | null
  /** `Facts.bootId` of the mirror. */
  bootId: string
  extentSize: number
  dataSize: number
  blockSize: number
  /** Dirty maps on each leg. */
  slots: number
  members: Member[]
  /**
   * A range in bytes that must be zeroed on every leg before the volume is served, because it
   * grows.
   */
  zeroing: { from: number; to: number } | null
  /**
   * The newest entries of the history: all that are kept in the head's record, fewer on the legs.
   */
  entries: HistoryEntry[]
  /** What verifies found; absent if nothing, and in records of older versions. */
  verified?: Verified
}

/** Bytes in which legs differ, as a verify found them. */
export interface KnownDifference {
  readonly from: number
  readonly to: number
  /** How many bytes of these differ; fewer than all where neighbours were put together. */
  readonly bytes: number
  /** The names of the legs that were compared; those in one group have the same bytes. */
  readonly groups: readonly (readonly string[])[]
}

/** The state of verifies, and the differences that they found and nothing has mended. */
export interface Verified {
  /**
   * When a verify last reached the end of the volume, wall clock in milliseconds; null if none has.
   */
  completedAt: number | null
  /**
   * From when the time to the next scheduled verify counts, wall clock in milliseconds; 0: not yet.
   */
  countedFrom: number
  /** The byte from which an interrupted scheduled verify goes on; 0 if none was interrupted. */
  position: number
  differences: readonly KnownDifference[]
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
  /** The counter of the generation at that time. */
  readonly generation: number
  /**
   * The summary of a resync or verify that ended; of the last one, where the entry stands for
   * several.
   */
  readonly resync?: ResyncSummary
  /** How often it happened, if more than once, and when first; `at` is when last. */
  readonly times?: number
  readonly first?: number
}

export interface ResyncSummary {
  /** partial: its dirty map. full: everything. crash: what the intent log held. */
  readonly kind: 'partial' | 'full' | 'crash' | 'verify'
  readonly cause: string
  readonly source: string
  /** Bytes that were lacking and are there now; for a verify, bytes compared. */
  readonly bytes: number
  /** Bytes of a copy that were read and written; the rest was zero. Absent in older entries. */
  readonly bytesMoved?: number
  readonly milliseconds: number
  readonly outcome: string
}

export const legsMax = 256
/** Earlier generations that a record keeps; a leg away for longer is known by the one it left. */
export const historyGenerationsMax = 64

/**
 * The highest counter: more than any volume comes to, and low enough that a claim above it is an
 * exact number.
 */
const counterMax = 2 ** 32 + 2 ** 31
/**
 * The highest counter that claims follow: no claim raises one to this, so a higher one was written
 * by other software.
 */
export const counterBelieved = 2 ** 32 + 2 ** 30 + 2 ** 29

/**
 * The counter of the next generation. It does not rise beyond what records are read with: other
 * software that wrote a high one must not make the volume unreadable.
 */
export function counterAfter(counter: number): number {
  return Math.min(counter + 1, counterMax)
}

/** The member, with the newer mark of `now` if it has one. */
export function withMarkOf(member: Member, now: Member | null | undefined): Member {
  if (now?.mark === undefined || now.markedIn === undefined) return member
  return { ...member, mark: now.mark, markedIn: now.markedIn }
}

/** The fields of a member whose leg lacks nothing. */
export const inSync = {
  state: 'in-sync',
  reason: '',
  left: null,
  label: null,
  stamp: null,
} as const

/** A copy of the record in which these legs are in sync as well. */
export function withInSync(
  record: VolumeRecord,
  legs: readonly { readonly member: Member | null }[],
): VolumeRecord {
  const ids = new Set(legs.map(({ member }) => member!.id))
  const members = record.members.map((one) => (ids.has(one.id) ? { ...one, ...inSync } : one))
  return { ...record, members }
}

/** The bytes where the metadata of a leg may end, by its record; the later the further on. */
export function endsOf(member: Member | undefined): readonly number[] {
  if (member === undefined) return []
  const { size, movesTo = 0 } = member
  return movesTo > size ? [size, movesTo] : [size]
}

/**
 * Checks a saved record in every part. Returns it, or null when it makes no sense. Never throws.
 */
export function parseRecord(value: unknown): VolumeRecord | null {
  if (!isObject(value)) return null
  const { extentSize, dataSize, blockSize, slots, members, history, zeroing, entries } = value
  const sizes =
    isSize(extentSize) &&
    isPowerOfTwo(extentSize) &&
    extentSize >= extentSizeMin &&
    extentSize <= extentSizeMax &&
    isSize(dataSize) &&
    dataSize > 0 &&
    dataSize / extentSize <= extentsMax &&
    isSize(blockSize) &&
    isPowerOfTwo(blockSize) &&
    isSize(slots) &&
    slots > 0 &&
    slots <= 4 * legsMax
  const known =
    sizes &&
    isHex(value['volume'], 32) &&
    isText(value['bootId']) &&
    isGeneration(value['generation']) &&
    isGeneration(value['base']) &&
    isForcedAt(value['forcedAt']) &&
    Array.isArray(history) &&
    history.length <= historyGenerationsMax &&
    history.every(isGeneration) &&
    Array.isArray(members) &&
    areMembers(members, slots) &&
    Array.isArray(entries) &&
    entries.every(isEntry) &&
    (value['verified'] === undefined || isVerified(value['verified'])) &&
    (zeroing === null || isZeroing(zeroing, dataSize))
  return known ? (value as unknown as VolumeRecord) : null
}

/** Parses the head's own record. Null when it makes no sense; never throws. */
export function parseRecordText(text: string): VolumeRecord | null {
  try {
    return parseRecord(JSON.parse(text))
  } catch {
    return null
  }
}

/** Whether both are the same generation. */
export function sameGeneration(one: Generation, other: Generation): boolean {
  return one.counter === other.counter && one.id === other.id
}

/** Whether the record's volume was at this generation earlier. */
export function remembers(record: VolumeRecord, generation: Generation): boolean {
  return (
    sameGeneration(record.base, generation) ||
    record.history.some((before) => sameGeneration(before, generation))
  )
}

/** Whether the record's volume was earlier where the leg is now. */
export function isPast(leg: VolumeRecord, record: VolumeRecord): boolean {
  if (remembers(record, leg.generation)) return true
  return record.members.some(({ left }) => left !== null && sameGeneration(left, leg.generation))
}

/**
 * The generation that a leg has left, noted when a run starts without it although it is in sync by
 * the record. Null where the volume was created and never ran, for the first run would be a
 * generation: such a leg may not even have got its superblock, and a blank one is filled like any
 * new one.
 */
export function leftAtStart({ base, history }: VolumeRecord): Generation | null {
  return history.length === 0 ? null : base
}

function areMembers(members: readonly unknown[], slots: number): boolean {
  const ids = new Set<unknown>()
  const names = new Set<unknown>()
  const used = new Set<unknown>()
  for (const member of members) {
    if (!isMember(member, slots)) return false
    ids.add(member.id)
    names.add(member.name)
    used.add(member.slot)
  }
  const { length } = members
  return length <= legsMax && ids.size === length && names.size === length && used.size === length
}

function isMember(value: unknown, slots: number): value is Member {
  return (
    isObject(value) &&
    isHex(value['id'], 32) &&
    isText(value['name']) &&
    legStates.includes(value['state'] as LegState) &&
    isText(value['reason']) &&
    isSize(value['since']) &&
    isSize(value['slot']) &&
    value['slot'] < slots &&
    (value['left'] === null || isGeneration(value['left'])) &&
    isSize(value['size']) &&
    (value['movesTo'] === undefined || isSize(value['movesTo'])) &&
    (value['mark'] === undefined || isSize(value['mark'])) &&
    (value['markedIn'] === undefined || isGeneration(value['markedIn'])) &&
    isText(value['bootId']) &&
    (value['identity'] === undefined || isText(value['identity'])) &&
    (value['whole'] === undefined || typeof value['whole'] === 'boolean') &&
    (value['label'] === null || isText(value['label'])) &&
    (value['stamp'] === null || isText(value['stamp']))
  )
}

function isEntry(value: unknown): value is HistoryEntry {
  return (
    isObject(value) &&
    isSize(value['number']) &&
    isSize(value['at']) &&
    isText(value['kind']) &&
    isText(value['leg']) &&
    isText(value['text']) &&
    isSize(value['generation']) &&
    (value['times'] === undefined || isSize(value['times'])) &&
    (value['first'] === undefined || isSize(value['first'])) &&
    (value['resync'] === undefined || isObject(value['resync']))
  )
}

/** The range must lie within the data: beyond are the metadata of the leg. */
function isZeroing(value: unknown, dataSize: number): boolean {
  if (!isObject(value)) return false
  const { from, to } = value
  return isSize(from) && isSize(to) && from <= to && to <= dataSize
}

function isForcedAt(value: unknown): boolean {
  return value === undefined || value === null || isGeneration(value)
}

/** Whether the value is a generation that may be believed. */
export function isGeneration(value: unknown): value is Generation {
  if (!isObject(value) || !isHex(value['id'], 16)) return false
  return isSize(value['counter']) && value['counter'] <= counterMax
}

/** Differences that are kept one by one at most; of more, the nearest are put together. */
export const differencesMax = 32
/** Names of legs in all of them at most, because superblocks have to hold the record. */
export const namesMax = 256
/** Characters of the name of a leg. */
const nameMax = 100

/** Whether the value makes sense as this part of a record. */
export function isVerified(value: unknown): value is Verified {
  if (!isObject(value) || !isSize(value['countedFrom']) || !isSize(value['position'])) return false
  const { completedAt, differences } = value
  if (completedAt !== null && !isSize(completedAt)) return false
  if (!Array.isArray(differences) || differences.length > differencesMax) return false
  return differences.every(isDifference)
}

function isDifference(value: unknown): value is KnownDifference {
  if (!isObject(value)) return false
  const { from, to, bytes, groups } = value
  if (!isSize(from) || !isSize(to) || !isSize(bytes) || from >= to || bytes > to - from)
    return false
  if (!Array.isArray(groups) || !groups.every(Array.isArray)) return false
  const names: readonly unknown[] = groups.flat()
  return (
    groups.length > 1 &&
    names.length <= namesMax &&
    names.every((name) => typeof name === 'string' && name.length <= nameMax)
  )
}

/** Characters of a text in a record that is read, at most. */
const textMax = 4096
/** Characters kept of a reason or an entry, fewer than a record is read with. */
export const reasonMax = 300
export const entryTextMax = 1000
/** Characters of a name or label that an operator gives, at most. */
export const labelMax = 100

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= textMax
}

function isHex(value: unknown, digits: number): value is string {
  return typeof value === 'string' && value.length === digits && /^[0-9a-f]*$/.test(value)
}
