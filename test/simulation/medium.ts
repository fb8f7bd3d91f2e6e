import { StorageError } from '../../src/base/errors.ts'
import type { Operation } from '../../src/device/request.ts'
import type { Machine, Process } from './machine.ts'

/** What a disk writes as a whole or not at all. */
export const sectorBytes = 512

/** How a machine's crash treats what a disk's cache held. */
export type Loss = 'keep' | 'lose' | 'prefix' | 'sectors'

interface Version {
  readonly order: number
  readonly bytes: Buffer
}

/** Milliseconds from when an operation is given to the disk. */
export interface Duration {
  /** Until it takes effect. */
  readonly effect: number
  /** Until it is answered. */
  readonly total: number
}

/** A write that the disk was given and has not finished. */
export interface Underway {
  readonly process: Process
  readonly offset: number
  readonly payload: Buffer
}

/** A range that fails. */
export interface Defect {
  readonly from: number
  readonly to: number
  readonly reads: boolean
  readonly writes: boolean
}

/**
 * What a disk holds: what is stable, and over it the writes since, which a crash may lose, tear
 * between sectors or keep out of order, as long as no flush came in between.
 */
export class Medium {
  readonly name: string
  readonly machine: Machine
  size: number
  identity: string
  /** What is read now. */
  content: Buffer
  /** Sectors whose newest bytes are not stable: their versions since, oldest first. */
  readonly volatile = new Map<number, Version[]>()
  readonly underway = new Set<Underway>()
  readonly defects: Defect[] = []
  /** Flushes fail while set. */
  flushFails = false
  full = false
  /** While true nothing that is submitted completes. */
  hung = false
  readonly hanging: (() => void)[] = []
  /** Milliseconds of one operation: from, and seldom up to. */
  latency: readonly [number, number] = [0.02, 0.5]
  /** How many operations take far longer than those around them, and milliseconds at most. */
  stragglers = 0
  stragglerMs = 0
  /** What the next operations take, before all of that is asked for. */
  readonly next: Duration[] = []
  /** Forced writes are made stable by themselves; otherwise by a flush of everything. */
  forces = false
  /** Told of what is submitted, for faults that wait for a moment. */
  ambush: ((operation: Operation, offset: number, length: number) => void) | null = null
  /** Changes with every write. */
  changes = 0
  /** The highest epoch that claimed it. */
  epoch = 0
  /** Sectors written since the last power loss; null before the first. */
  private writtenSince: Set<number> | null = null
  /** Told when it is larger than it was. */
  readonly grown = new Set<() => void>()
  /** Told of a power loss. */
  lost: () => void = () => undefined
  private stable: Buffer
  private orders = 0

  constructor(name: string, machine: Machine, size: number) {
    this.name = name
    this.machine = machine
    this.size = size
    this.identity = machine.dice.bytes(16).toString('hex')
    this.content = Buffer.alloc(size)
    this.stable = Buffer.alloc(size)
    machine.media.push(this)
  }

  get order(): number {
    return this.orders
  }

  /** Whether nobody can say that the sector is what it was before a power loss. */
  doubtful(sector: number): boolean {
    return this.writtenSince?.has(sector) === false
  }

  /** Adds space, with whatever was there before: nobody may see it. */
  grow(bytes: number): void {
    const rubbish = Buffer.alloc(bytes, 'rubbish!')
    this.content = Buffer.concat([this.content, rubbish])
    this.stable = Buffer.concat([this.stable, rubbish])
    this.size += bytes
    for (const told of this.grown) told()
  }

  /** Another disk is in its place, with rubbish on it. */
  replace(bytes = this.size): void {
    this.size = bytes
    this.content = Buffer.alloc(bytes, 'rubbish!')
    this.stable = Buffer.from(this.content)
    this.volatile.clear()
    this.identity = this.machine.dice.bytes(16).toString('hex')
    this.epoch = 0
    this.lost()
  }

  /** `forced`: to stable storage, past the cache. */
  write(offset: number, payload: Buffer, forced = false): void {
    this.changes++
    payload.copy(this.content, offset)
    const order = ++this.orders
    const last = Math.ceil((offset + payload.length) / sectorBytes)
    for (let sector = Math.floor(offset / sectorBytes); sector < last; sector++) {
      if (forced) this.keep(sector)
      else this.remember(sector, order)
      this.writtenSince?.add(sector)
    }
  }

  /** What the next operation takes. */
  duration(): Duration {
    const planned = this.next.shift()
    if (planned !== undefined) return planned
    const { dice } = this.machine
    const late = this.stragglers > 0 && dice.chance(this.stragglers)
    const total = late ? dice.between(0, this.stragglerMs) : dice.skewed(...this.latency)
    return { effect: dice.between(0, total), total }
  }

  /** All writes up to `order` become stable. */
  flush(order: number): void {
    for (const [sector, versions] of this.volatile) {
      let stable = -1
      while (stable + 1 < versions.length && versions[stable + 1]!.order <= order) stable++
      if (stable === -1) continue
      versions[stable]!.bytes.copy(this.stable, sector * sectorBytes)
      if (stable === versions.length - 1) this.volatile.delete(sector)
      else versions.splice(0, stable + 1)
    }
  }

  fault(from: number, length: number, kind: 'reads' | 'writes'): StorageError | null {
    const to = from + length
    const found = this.defects.some((each) => each[kind] && each.from < to && from < each.to)
    if (found) return new StorageError('IO', `${kind} of ${this.name} fail at ${from}+${length}`)
    if (kind === 'writes' && this.full) return new StorageError('NO_SPACE', `${this.name} is full`)
    return null
  }

  /** The kernel finishes, or not, what a killed process had asked for. */
  processEnded(process: Process): void {
    for (const write of this.underway) if (write.process === process) this.settle(write)
  }

  powerLost(): void {
    const { dice } = this.machine
    for (const write of this.underway) this.settle(write)
    const loss = dice.pick<Loss>(['keep', 'lose', 'prefix', 'sectors'])
    const upTo = dice.integer(0, this.orders)
    for (const [sector, versions] of this.volatile) {
      let kept = versions.length - 1
      if (loss === 'lose') kept = -1
      else if (loss === 'prefix') while (kept >= 0 && versions[kept]!.order > upTo) kept--
      else if (loss === 'sectors') kept = dice.integer(-1, versions.length - 1)
      if (kept >= 0) versions[kept]!.bytes.copy(this.stable, sector * sectorBytes)
    }
    this.volatile.clear()
    this.stable.copy(this.content)
    this.hanging.length = 0
    this.writtenSince = new Set()
    this.lost()
  }

  /** What waited while the disk was hung goes on. */
  unhang(): void {
    this.hung = false
    for (const resume of this.hanging.splice(0)) resume()
  }

  private settle(write: Underway): void {
    this.underway.delete(write)
    const { dice } = this.machine
    const { offset, payload } = write
    if (dice.chance(0.4)) return
    if (dice.chance(0.5)) {
      this.write(offset, payload)
      return
    }
    for (let at = 0; at < payload.length; at += sectorBytes)
      if (dice.chance(0.5)) this.write(offset + at, payload.subarray(at, at + sectorBytes))
  }

  private keep(sector: number): void {
    const from = sector * sectorBytes
    this.content.copy(this.stable, from, from, from + sectorBytes)
    this.volatile.delete(sector)
  }

  private remember(sector: number, order: number): void {
    const from = sector * sectorBytes
    const bytes = Buffer.from(this.content.subarray(from, from + sectorBytes))
    const versions = this.volatile.get(sector)
    if (versions === undefined) this.volatile.set(sector, [{ order, bytes }])
    else versions.push({ order, bytes })
  }
}
