import type { Generation, VolumeRecord } from '../../src/mirror/record.ts'
import { legStates } from '../../src/mirror/record.ts'
import type { Pack } from './pack.ts'
import type { Configuration } from './config.ts'
import { View } from './view.ts'

/**
 * Numbers that are only ever compared with each other: a state is the same when their order is.
 * First all are collected, then each is written as its place among them.
 */
export class Ranks {
  /** In their order, each once. */
  private readonly values: number[] = []

  clear(): void {
    this.values.length = 0
  }

  /** 0 stands for none. */
  add(value: number): void {
    const { values } = this
    let at = values.length
    while (at > 0 && values[at - 1]! > value) at--
    if (value !== 0 && (at === 0 || values[at - 1] !== value)) values.splice(at, 0, value)
  }

  /** The place of the number, from 1 on. */
  of(value: number): number {
    const place = this.values.indexOf(value) + 1
    if (place === 0) throw new Error(`${value} was not collected`)
    return place
  }

  get all(): readonly number[] {
    return this.values
  }

  has(value: number): boolean {
    return this.values.includes(value)
  }
}

/** Names that are only ever compared for equality, each as its place in the order of meeting. */
export class Names {
  private readonly known: number[] = []

  clear(): void {
    this.known.length = 0
  }

  of(name: number): number {
    const at = this.known.indexOf(name)
    return at === -1 ? this.known.push(name) - 1 : at
  }
}

/** A generation as a number: its counter, and which head made it. */
export function numberOf({ counter, id }: Generation): number {
  return counter * 4 + id.charCodeAt(0) - 48
}

const generations: Generation[] = []

/** The only object for that generation. */
export function generationOf(number: number): Generation {
  return (generations[number] ??= { counter: number >> 2, id: String(number & 3) })
}

/** A record as it is on a disk. */
export interface Snapshot {
  generation: number
  base: number
  /** Newest first. */
  history: number[]
  /** Of each member: its place in `legStates`, when it left, its boot id. */
  states: number[]
  left: number[]
  boots: number[]
}

export function snapshotOf(record: VolumeRecord): Snapshot {
  const { generation, base, history, members } = record
  return {
    generation: numberOf(generation),
    base: numberOf(base),
    history: history.map(numberOf),
    states: members.map(({ state }) => legStates.indexOf(state)),
    left: members.map(({ left }) => (left === null ? 0 : numberOf(left))),
    boots: members.map(({ bootId }) => bootId.charCodeAt(0)),
  }
}

const bareOnes: Snapshot[] = []

/** The only one with that generation and nothing else. */
export function bareOf(generation: number, legs: number): Snapshot {
  const zeroes = (): number[] => Array<number>(legs).fill(0)
  return (bareOnes[legs * 256 + generation] ??= {
    generation,
    base: 0,
    history: [],
    states: zeroes(),
    left: zeroes(),
    boots: zeroes(),
  })
}

/** A record with nothing in it but what the rules look at. */
export function emptyRecord(legs: number): VolumeRecord {
  const generation = generationOf(4)
  return {
    volume: 'v'.repeat(32),
    generation,
    base: generation,
    history: [],
    bootId: '',
    extentSize: 65536,
    dataSize: 65536,
    blockSize: 512,
    slots: 8,
    members: Array.from({ length: legs }, (_, at) => ({
      id: String(at),
      name: 'abc'[at]!,
      state: 'in-sync',
      reason: '',
      since: 0,
      slot: at,
      left: null,
      size: 0,
      bootId: String.fromCharCode(0),
      label: null,
      stamp: null,
    })),
    zeroing: null,
    entries: [],
  }
}

/** Fills `record` with what is on a disk. */
export function restore(record: VolumeRecord, from: Snapshot): void {
  record.generation = generationOf(from.generation)
  record.base = generationOf(from.base)
  record.history = from.history.map(generationOf)
  for (const [at, member] of record.members.entries()) {
    member.state = legStates[from.states[at]!]!
    member.left = from.left[at] === 0 ? null : generationOf(from.left[at]!)
    member.bootId = String.fromCharCode(from.boots[at]!)
  }
}

/** Writes and reads what has generations, boot ids, legs and extents in it. */
export class Codec {
  readonly pack: Pack
  readonly generations = new Ranks()
  readonly boots: readonly Names[]
  /** In which order legs and extents are written. What is read is in that order already. */
  readonly view: View
  /** Whether of superblocks, and of records, anything is read but the generation. */
  superblocks: 'whole' | 'bare' = 'whole'
  records: 'whole' | 'bare' = 'whole'
  private readonly asWritten: View
  readonly isDense: boolean
  /** Of each counter: one that stands for it. */
  private readonly counters: number[] = []

  /** `dense`: there is one head, so that generations that nothing mentions may be left out. */
  constructor(pack: Pack, { legs, extents }: Configuration, dense: boolean) {
    this.pack = pack
    this.boots = Array.from({ length: legs }, () => new Names())
    this.view = new View(legs, extents)
    this.asWritten = new View(legs, extents)
    this.isDense = dense
  }

  /** Which leg is at each place. */
  get legs(): readonly number[] {
    return this.pack.writing ? this.view.legs : this.asWritten.legs
  }

  get extents(): readonly number[] {
    return this.pack.writing ? this.view.extents : this.asWritten.extents
  }

  leg(leg: number): number {
    const { pack, view } = this
    if (!pack.writing) return pack.byte(0)
    pack.byte(view.placeOfLeg[leg]!)
    return leg
  }

  extent(extent: number): number {
    const { pack, view } = this
    if (!pack.writing) return pack.byte(0)
    pack.byte(view.placeOfExtent[extent]!)
    return extent
  }

  /** A set of legs, as bits. */
  legSet(bits: number): number {
    const { pack, view } = this
    if (!pack.writing) return pack.byte(0)
    pack.byte(view.legSets[bits]!)
    return bits
  }

  extentSet(bits: number): number {
    const { pack, view } = this
    if (!pack.writing) return pack.byte(0)
    pack.byte(view.extentSets[bits]!)
    return bits
  }

  /** What each leg lacks, three bits for each. */
  lacks(value: number): number {
    const { pack, view } = this
    if (!pack.writing) return pack.byte(0) | (pack.byte(0) << 8)
    let placed = 0
    for (let at = 0; at < view.legs.length; at++)
      placed |= view.extentSets[(value >> (3 * view.legs[at]!)) & 7]! << (3 * at)
    pack.byte(placed & 255)
    pack.byte(placed >> 8)
    return value
  }

  /** One byte of each extent. */
  perExtent(values: number[]): void {
    const { pack, extents } = this
    for (let at = 0; at < extents.length; at++)
      values[extents[at]!] = pack.byte(values[extents[at]!]!)
  }

  /** The generation as it was, or as it was written. */
  generation(number: number): number {
    const { pack } = this
    if (!pack.writing) return pack.byte(0) * (this.isDense ? 4 : 1)
    pack.byte(this.isDense ? this.rank(number) : this.near(number))
    return number
  }

  /**
   * Of two heads it also counts whether a generation follows on another at once, because claims are
   * made from them. So only what is further apart comes nearer.
   */
  noteCounters(): void {
    if (this.isDense) return
    let last = -1
    let near = 0
    for (const number of this.generations.all) {
      const counter = number >> 2
      if (counter === last) continue
      near += last === -1 ? 1 : Math.min(2, counter - last)
      last = counter
      this.counters[counter] = near
    }
  }

  private near(number: number): number {
    return number === 0 ? 0 : this.counters[number >> 2]! * 4 + (number & 3)
  }

  claim(claim: number): number {
    const { pack } = this
    if (this.isDense) return 0
    if (!pack.writing) return pack.byte(0) * 8 + pack.byte(0)
    pack.byte(claim === 0 ? 0 : this.counters[claim >> 3]!)
    pack.byte(claim & 7)
    return claim
  }

  step(step: number): number {
    const { pack } = this
    if (!pack.writing) return pack.byte(0)
    pack.byte(step === 0 ? 0 : this.counters[step]!)
    return step
  }

  rank(number: number): number {
    return number === 0 ? 0 : this.generations.of(number)
  }

  boot(leg: number, boot: number): number {
    const { pack } = this
    if (!pack.writing) return pack.byte(0)
    const name = this.boots[leg]!.of(boot)
    pack.byte(this.isDense ? name : Math.min(1, name))
    return boot
  }

  /** What is on a leg, or on its way there. */
  superblock(from: Snapshot | null): Snapshot | null {
    return this.superblocks === 'whole' ? this.snapshot(from) : this.bare(from)
  }

  /** What is in a head's store, or on its way there. */
  stored(from: Snapshot | null): Snapshot | null {
    return this.records === 'whole' ? this.snapshot(from) : this.bare(from)
  }

  private bare(from: Snapshot | null): Snapshot | null {
    if (!this.pack.flag(from !== null)) return null
    const generation = this.generation(from?.generation ?? 0)
    return this.pack.writing ? from : bareOf(generation, this.boots.length)
  }

  snapshot(from: Snapshot | null): Snapshot | null {
    if (!this.pack.flag(from !== null)) return null
    // Others have hold of the one that was.
    const into = this.pack.writing ? from! : this.blank()
    this.content(into)
    return into
  }

  private blank(): Snapshot {
    const { length } = this.boots
    const zeroes = (): number[] => (length === 2 ? [0, 0] : Array<number>(length).fill(0))
    const [states, left, boots] = [zeroes(), zeroes(), zeroes()]
    return { generation: 0, base: 0, history: [], states, left, boots }
  }

  /** What is in a snapshot, in its place. */
  private content(into: Snapshot): void {
    const { legs, pack } = this
    into.generation = this.generation(into.generation)
    into.base = this.generation(into.base)
    into.history = this.history(into.history)
    for (let at = 0; at < legs.length; at++) {
      const leg = legs[at]!
      into.states[leg] = pack.byte(into.states[leg]!)
      into.left[leg] = this.generation(into.left[leg]!)
      into.boots[leg] = this.boot(leg, into.boots[leg]!)
    }
  }

  /** Only what something mentions: nobody will ever ask for another. */
  history(numbers: number[]): number[] {
    const { pack, generations } = this
    if (!pack.writing) return pack.list([]).map((rank) => (this.isDense ? rank * 4 : rank))
    const known = numbers.filter((number) => generations.has(number))
    // What is not known any more was there all the same, see `leftAtStart`.
    if (known.length === 0 && numbers.length > 0) known.push(0)
    pack.list(known.map((number) => (this.isDense ? this.rank(number) : this.near(number))))
    return numbers
  }
}
