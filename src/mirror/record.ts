import { isObject, isPowerOfTwo, isSize } from '../base/guards.ts'
import { extentSizeMax, extentSizeMin, extentsMax } from './layout.ts'

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
  /**
   * Where they may end instead, which is further: the leg has grown, and nothing was written there
   * before this was durable. Absent where they are not on their way.
   */
  movesTo?: number
  /** A serial that its superblock had for certain; records of before have none. */
  mark?: number
  /**
   * The generation of that superblock, with its serial again: a version of before raises the mark
   * alone, and leaves what it does not know. Records of before do not say.
   */
  markedIn?: Generation & { readonly serial?: number }
  /** `Facts.bootId` of the leg when it was last seen. */
  bootId: string
  /** `Facts.identity` of the leg when it was last written to; records of before have none. */
  identity?: string
  /** Of a leg not in sync: whether it was to be copied whole since it left. Absent means no. */
  whole?: boolean
  /** Of a detached leg: the name given, and the content's stamp at that moment. */
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
  /**
   * Where an operator had it start last though legs could be newer, `--force`; null if nobody did.
   * Records of before do not say.
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
  /** A range that must be zeroed on every leg before the volume is served: a growth under way. */
  zeroing: { from: number; to: number } | null
  /** The end of the history: all that is kept of it in the head's record, less on the legs. */
  entries: HistoryEntry[]
  /** What verifies found; records of before have none. */
  verified?: Verified
}

/** Bytes in which legs differ, as a verify found them. */
export interface KnownDifference {
  readonly from: number
  readonly to: number
  /** How many of these differ; fewer than all where neighbours were put together. */
  readonly bytes: number
  /** The names of the legs that were compared; those in one group have the same bytes. */
  readonly groups: readonly (readonly string[])[]
}

/** What verifies of a volume found, until it is mended. */
export interface Verified {
  /** Wall clock, milliseconds: when a verify came to the end of the volume; null if none has. */
  completedAt: number | null
  /** Wall clock, milliseconds: the next one that is scheduled is counted from here. 0: not yet. */
  countedFrom: number
  /** Bytes up to which a scheduled verify has come that was interrupted and is to go on. */
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
  /** The counter of the generation then. */
  readonly generation: number
  /** Of a resync or verify, once it ended; of the last one, where it happened more than once. */
  readonly resync?: ResyncSummary
  /** How often it happened, if more than once, and when first; `at` is the last time. */
  readonly times?: number
  readonly first?: number
}

export interface ResyncSummary {
  /** partial: its dirty map. full: everything. crash: what the intent log held. */
  readonly kind: 'partial' | 'full' | 'crash' | 'verify'
  readonly cause: string
  readonly source: string
  /** What was lacking, and is there now. */
  readonly bytes: number
  /** Of a copy: what of that was read and written; the rest was zero. Absent in older entries. */
  readonly bytesMoved?: number
  readonly milliseconds: number
  readonly outcome: string
}

export const legsMax = 256
/** Generations kept; a leg away for longer is known by the generation it left. */
export const historyGenerationsMax = 64

/** More than any volume comes to, and little enough for a claim above it to be an exact number. */
const counterMax = 2 ** 32 + 2 ** 31
/** Above what any claim raises one to: what is higher somebody else wrote, and no claim follows. */
export const counterBelieved = 2 ** 32 + 2 ** 30 + 2 ** 29

/**
 * The counter of the next generation. It ends where records are read again no more: whoever wrote
 * that it had come so far must not make the volume illegible.
 */
export function counterAfter(counter: number): number {
  return Math.min(counter + 1, counterMax)
}

/** The member with the mark that it has got since. */
export function withMarkOf(member: Member, now: Member | null | undefined): Member {
  if (now?.mark === undefined || now.markedIn === undefined) return member
  return { ...member, mark: now.mark, markedIn: now.markedIn }
}

/** What a member is from the moment on that its leg lacks nothing. */
export const inSync = {
  state: 'in-sync',
  reason: '',
  left: null,
  label: null,
  stamp: null,
} as const

/** The record as it is once these legs are in sync as well. */
export function withInSync(
  record: VolumeRecord,
  legs: readonly { readonly member: Member | null }[],
): VolumeRecord {
  const ids = new Set(legs.map(({ member }) => member!.id))
  const members = record.members.map((one) => (ids.has(one.id) ? { ...one, ...inSync } : one))
  return { ...record, members }
}

/** Where the metadata of a leg may end, by what is remembered of it: the further the later. */
export function endsOf(member: Member | undefined): readonly number[] {
  if (member === undefined) return []
  const { size, movesTo = 0 } = member
  return movesTo > size ? [size, movesTo] : [size]
}

/** A record as it was saved, checked in every part; null when it makes no sense. Never throws. */
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

/** The head's own record, from its text. */
export function parseRecordText(text: string): VolumeRecord | null {
  try {
    return parseRecord(JSON.parse(text))
  } catch {
    return null
  }
}

export function sameGeneration(one: Generation, other: Generation): boolean {
  return one.counter === other.counter && one.id === other.id
}

/** Whether the record's volume once was at this generation. */
export function remembers(record: VolumeRecord, generation: Generation): boolean {
  return (
    sameGeneration(record.base, generation) ||
    record.history.some((before) => sameGeneration(before, generation))
  )
}

/** Whether the record's volume was once where the leg is now. */
export function isPast(leg: VolumeRecord, record: VolumeRecord): boolean {
  if (remembers(record, leg.generation)) return true
  return record.members.some(({ left }) => left !== null && sameGeneration(left, leg.generation))
}

/**
 * What a leg is remembered to have left that was in sync by the record a run starts from. Null
 * where the volume was created and never ran, for the first run would be a generation: such a leg
 * may not even have got its superblock, and a blank one is filled like any new one.
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

/** Beyond the data are the metadata of the leg. */
function isZeroing(value: unknown, dataSize: number): boolean {
  if (!isObject(value)) return false
  const { from, to } = value
  return isSize(from) && isSize(to) && from <= to && to <= dataSize
}

function isForcedAt(value: unknown): boolean {
  return value === undefined || value === null || isGeneration(value)
}

export function isGeneration(value: unknown): value is Generation {
  if (!isObject(value) || !isHex(value['id'], 16)) return false
  return isSize(value['counter']) && value['counter'] <= counterMax
}

/** Differences that are remembered one by one; of more, the nearest are put together. */
export const differencesMax = 32
/** Names of legs in all of them: superblocks hold the record, and have an end. */
export const namesMax = 256
/** Characters of the name of a leg. */
const nameMax = 100

/** Whether a record that was read may be believed in this. */
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

/** Characters of a text that a record is read with. */
const textMax = 4096
/** Characters that are kept of what others say, less than what a record is read with. */
export const reasonMax = 300
export const entryTextMax = 1000
/** Characters that an operator may give to a label. */
export const labelMax = 100

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= textMax
}

function isHex(value: unknown, digits: number): value is string {
  return typeof value === 'string' && value.length === digits && /^[0-9a-f]*$/.test(value)
}
