import { StorageError } from '../../src/base/errors.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import type { Machine, Process } from './machine.ts'

/** What a disk writes as a whole or not at all. */
export const sectorBytes = 512

/** How a machine's crash treats what a disk's cache held. */
export type Loss = 'keep' | 'lose' | 'prefix' | 'sectors'

/** Bytes of one sector, which begin at `at`. */
interface Copy {
  readonly bytes: Buffer
  readonly at: number
}

/** A sector whose newest bytes are not stable. */
interface Unstable {
  /** What is stable. */
  base: Copy
  /** The orders of the writes since, oldest first. */
  readonly orders: number[]
  /** What each of them left behind, but for the newest: that is what is read. */
  readonly copies: Copy[]
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
  readonly request: Request
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
  /** Sectors whose newest bytes are not stable. */
  readonly volatile = new Map<number, Unstable>()
  readonly underway = new Set<Underway>()
  readonly defects: Defect[] = []
  /** Flushes fail while set. */
  flushFails = false
  /** Only the next flush fails, then they work again. */
  flushFailsOnce = false
  /** A flush that fails drops what it was to write, as kernels do: no later one writes it. */
  dropsUnwritten = false
  full = false
  /** While true nothing that is submitted completes. */
  hung = false
  readonly hanging: (() => void)[] = []
  /** Operations that were submitted and have not taken effect. */
  busy = 0
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
  /** Told of what is submitted, and with `done` of what has taken effect. */
  watched: (operation: Operation, offset: number, done: boolean) => void = () => undefined
  /** Told that it was claimed. */
  claimed: () => void = () => undefined
  /** Changes with every write. */
  changes = 0
  /** The highest epoch that claimed it. */
  epoch = 0
  /** Sectors written since it lost something last, or may have; null before that. */
  private writtenSince: Set<number> | null = null
  /** Told when it is larger than it was, or another one. */
  readonly watchers = new Set<() => void>()
  /** Told of a loss, and how it came about. */
  lost: (how: string) => void = () => undefined
  /** Told that it failed in a way that counts as a loss, and has lost nothing. */
  distrusted: () => void = () => undefined
  private orders = 0

  constructor(name: string, machine: Machine, size: number) {
    this.name = name
    this.machine = machine
    this.size = size
    this.identity = machine.dice.bytes(16).toString('hex')
    this.content = Buffer.alloc(size)
    machine.media.push(this)
  }

  get order(): number {
    return this.orders
  }

  /** Whether nobody can say that the sector is what it was before a loss. */
  doubtful(sector: number): boolean {
    return this.writtenSince?.has(sector) === false
  }

  /** Adds space, with whatever was there before: nobody may see it. */
  grow(bytes: number): void {
    const rubbish = Buffer.alloc(bytes, 'rubbish!')
    this.content = Buffer.concat([this.content, rubbish])
    this.size += bytes
    this.announce()
  }

  /** Has its users look at it again. */
  announce(): void {
    for (const look of this.watchers) look()
  }

  /** Another disk is in its place, with rubbish on it. */
  replace(bytes = this.size): void {
    this.size = bytes
    this.content = Buffer.alloc(bytes, 'rubbish!')
    this.volatile.clear()
    this.identity = this.machine.dice.bytes(16).toString('hex')
    this.epoch = 0
    this.lost('is another one')
  }

  /** `forced`: to stable storage, past the cache. */
  write(offset: number, payload: Buffer, forced = false): void {
    this.begin(offset, payload.length, forced)
    payload.copy(this.content, offset)
  }

  /** Takes a write's bytes from the request itself. */
  writeFrom(request: Request, forced: boolean): void {
    const { offset, length } = request
    this.begin(offset, length, forced)
    request.copyTo(this.content.subarray(offset, offset + length))
  }

  zero(offset: number, length: number, forced: boolean): void {
    this.begin(offset, length, forced)
    this.content.fill(0, offset, offset + length)
  }

  /** Notes what a write is about to replace. */
  private begin(offset: number, length: number, forced: boolean): void {
    this.changes++
    const order = ++this.orders
    const first = Math.floor(offset / sectorBytes)
    const last = Math.ceil((offset + length) / sectorBytes)
    if (!forced) this.remember(first, last, order)
    for (let sector = first; sector < last; sector++) {
      if (forced) this.volatile.delete(sector)
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
    for (const [sector, { orders, copies }] of this.volatile) {
      let stable = -1
      while (stable + 1 < orders.length && orders[stable + 1]! <= order) stable++
      if (stable === -1) continue
      if (stable === orders.length - 1) {
        this.volatile.delete(sector)
        continue
      }
      this.volatile.get(sector)!.base = copies[stable]!
      orders.splice(0, stable + 1)
      copies.splice(0, stable + 1)
    }
  }

  /** A flush of all writes up to `order` fails: some of them are stable, the others are gone. */
  failFlush(order: number): void {
    this.flushFails &&= !this.flushFailsOnce
    if (!this.dropsUnwritten || this.volatile.size === 0) {
      this.distrust()
      return
    }
    for (const [sector, { base, orders }] of this.volatile) {
      // What was written meanwhile is of the next flush.
      if (orders.at(-1)! > order) continue
      if (this.machine.dice.chance(0.7)) this.restore(sector, base)
      this.volatile.delete(sector)
    }
    this.writtenSince = new Set()
    this.lost('drops what it could not flush')
  }

  /**
   * A flush failed, or a forced write: nobody can know that it has all the same what was not
   * flushed.
   */
  distrust(): void {
    this.writtenSince = new Set()
    this.distrusted()
  }

  /** Whether a forced write fails as a flush does; nothing but its own bytes is lost by that. */
  failsForced(): boolean {
    if (!this.flushFails || !this.dropsUnwritten) return false
    this.flushFails = !this.flushFailsOnce
    return true
  }

  /** An older copy of all of it is in its place, and nobody is told. */
  rollBack(copy: Buffer): void {
    this.content = Buffer.from(copy)
    this.volatile.clear()
    this.writtenSince = new Set()
    this.lost('is what it once was')
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
    for (const [sector, { base, orders, copies }] of this.volatile) {
      const newest = orders.length - 1
      let kept = newest
      if (loss === 'lose') kept = -1
      else if (loss === 'prefix') while (kept >= 0 && orders[kept]! > upTo) kept--
      else if (loss === 'sectors') kept = dice.integer(-1, newest)
      if (kept < newest) this.restore(sector, kept < 0 ? base : copies[kept]!)
    }
    this.volatile.clear()
    this.hanging.length = 0
    this.busy = 0
    this.writtenSince = new Set()
    this.lost('lost power')
  }

  /** What waited while the disk was hung goes on. */
  unhang(): void {
    this.hung = false
    for (const resume of this.hanging.splice(0)) resume()
  }

  private settle(write: Underway): void {
    this.underway.delete(write)
    const { dice } = this.machine
    const { operation, offset, length } = write.request
    if (dice.chance(0.4)) return
    const payload = Buffer.alloc(length)
    if (operation === Operation.write) write.request.copyTo(payload)
    if (dice.chance(0.5)) {
      this.write(offset, payload)
      return
    }
    for (let at = 0; at < payload.length; at += sectorBytes)
      if (dice.chance(0.5)) this.write(offset + at, payload.subarray(at, at + sectorBytes))
  }

  private restore(sector: number, { bytes, at }: Copy): void {
    bytes.copy(this.content, sector * sectorBytes, at, at + sectorBytes)
  }

  private remember(first: number, last: number, order: number): void {
    const bytes = Buffer.from(this.content.subarray(first * sectorBytes, last * sectorBytes))
    for (let sector = first; sector < last; sector++) {
      const before = { bytes, at: (sector - first) * sectorBytes }
      const unstable = this.volatile.get(sector)
      if (unstable === undefined) {
        this.volatile.set(sector, { base: before, orders: [order], copies: [] })
        continue
      }
      unstable.orders.push(order)
      unstable.copies.push(before)
    }
  }
}
