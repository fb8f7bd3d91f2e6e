import type { Generation, VolumeRecord } from '../../src/mirror/record.ts'
import { legStates } from '../../src/mirror/record.ts'
import type { Pack } from './pack.ts'

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

/** Writes and reads what has generations and boot ids in it. */
export class Codec {
  readonly pack: Pack
  readonly generations = new Ranks()
  readonly boots: readonly Names[]
  private readonly dense: boolean

  /** `dense`: there is one head, so that generations that nothing mentions may be left out. */
  constructor(pack: Pack, legs: number, dense: boolean) {
    this.pack = pack
    this.boots = Array.from({ length: legs }, () => new Names())
    this.dense = dense
  }

  /** The generation as it was, or as it was written. */
  generation(number: number): number {
    const { pack } = this
    if (!pack.writing) return pack.byte(0) * (this.dense ? 4 : 1)
    const rank = number === 0 ? 0 : this.generations.of(number)
    pack.byte(this.dense ? rank : number)
    return number
  }

  boot(leg: number, boot: number): number {
    const { pack } = this
    if (!pack.writing) return pack.byte(0)
    pack.byte(this.boots[leg]!.of(boot))
    return boot
  }

  snapshot(from: Snapshot | null): Snapshot | null {
    if (!this.pack.flag(from !== null)) return null
    const into = from ?? {
      generation: 0,
      base: 0,
      history: [],
      states: Array<number>(this.boots.length).fill(0),
      left: Array<number>(this.boots.length).fill(0),
      boots: Array<number>(this.boots.length).fill(0),
    }
    this.record(into)
    return into
  }

  /** What is in a snapshot, in its place. */
  private record(into: Snapshot): void {
    into.generation = this.generation(into.generation)
    into.base = this.generation(into.base)
    into.history = this.history(into.history)
    for (let leg = 0; leg < this.boots.length; leg++) {
      into.states[leg] = this.pack.byte(into.states[leg]!)
      into.left[leg] = this.generation(into.left[leg]!)
      into.boots[leg] = this.boot(leg, into.boots[leg]!)
    }
  }

  /** Only what something mentions: nobody will ever ask for another. */
  history(numbers: number[]): number[] {
    const { pack, generations } = this
    if (!pack.writing) return pack.list([]).map((rank) => (this.dense ? rank * 4 : rank))
    const known = numbers.filter((number) => generations.has(number))
    pack.list(known.map((number) => (this.dense ? generations.of(number) : number)))
    return numbers
  }
}
