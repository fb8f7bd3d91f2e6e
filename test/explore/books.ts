import type { Lacking, Row, Unflushed, WriteLog } from '../../src/mirror/rules/run.ts'
import type { Codec } from './codec.ts'

/** A set of up to eight extents as the bits of a number. */
export class Set8 implements Unflushed {
  bits = 0

  get extents(): this {
    return this
  }

  has(extent: number): boolean {
    return (this.bits & (1 << extent)) !== 0
  }

  add(extent: number): void {
    this.bits |= 1 << extent
  }
}

/** What a leg lacks, and what is on disk of that: `DirtyMap` for eight extents in one page. */
export class Lacks implements Lacking {
  bits = 0
  durable = 0
  behind = false
  /** Extents being copied, and those of them that were missed meanwhile. */
  copying = 0
  missed = 0
  /** Of the flush under way: what it may not cover; -1 when there is none. */
  uncovered = -1
  private readonly all: number

  constructor(extents: number) {
    this.all = (1 << extents) - 1
  }

  get any(): boolean {
    return this.bits !== 0
  }

  /** Whether something was copied, and it is not on disk that it was. */
  get hasCopied(): boolean {
    return (this.durable & ~this.bits) !== 0
  }

  clear(): void {
    this.bits = this.durable = this.copying = this.missed = 0
    this.behind = false
    this.uncovered = -1
  }

  set(extent: number): void {
    const bit = 1 << extent
    this.missed |= this.copying & bit
    if ((this.bits & bit) === 0 && (this.durable & bit) === 0) this.behind = true
    this.bits |= bit
  }

  /** An extent has one byte here. */
  miss(from: number): void {
    this.set(from)
  }

  missSet({ bits }: Set8): void {
    for (let at = 0; at < 8; at++) if ((bits & (1 << at)) !== 0) this.set(at)
  }

  missFrom(_unflushed: Unflushed, extent: number): void {
    this.set(extent)
  }

  setAll(): void {
    this.missed |= this.copying
    this.bits = this.all
    this.behind = true
  }

  inherit(found: number): void {
    this.durable |= found
    if (found !== 0) this.behind = true
  }

  forgetCopies(): void {
    this.missed |= this.copying
    this.bits |= this.durable
  }

  copied(extent: number): void {
    const bit = 1 << extent
    this.bits &= ~bit
    if (this.uncovered !== -1) this.uncovered |= bit
    if ((this.durable & bit) === 0) this.behind = true
    this.durable |= bit
  }

  /** Whether there is a page to write, so that every bit set by now is durable. */
  takeBehind(): boolean {
    const { behind } = this
    this.behind = false
    if (behind) this.durable |= this.bits
    return behind
  }

  /** The same, so that no more than what the flush did not cover stays. */
  takeFlushed(): boolean {
    if (this.uncovered === -1) return false
    const wanted = this.uncovered | this.bits
    const changed = this.behind || wanted !== this.durable
    this.durable = wanted
    this.behind = false
    this.uncovered = -1
    return changed
  }

  transfer(codec: Codec): void {
    const { pack } = codec
    this.bits = codec.extentSet(this.bits)
    this.durable = codec.extentSet(this.durable)
    this.behind = pack.flag(this.behind)
    this.copying = codec.extentSet(this.copying)
    this.missed = codec.extentSet(this.missed)
    if (pack.flag(this.uncovered !== -1))
      this.uncovered = codec.extentSet(Math.max(0, this.uncovered))
    else this.uncovered = -1
  }
}

/** The log of recent writes: `IntentLog` for eight extents in one page. */
export class Log implements WriteLog {
  moment = 1
  readonly inFlight: number[]
  readonly last: number[]
  hot = 0
  durable = 0
  /** Hot extents whose page is to be written; and being written. */
  fresh = 0
  writing = 0
  /** What the page says when it is written next. */
  bits = 0
  /** What an earlier run left. */
  inherited = 0
  private readonly extents: number

  constructor(extents: number) {
    this.extents = extents
    this.inFlight = Array<number>(extents).fill(0)
    this.last = Array<number>(extents).fill(0)
  }

  clear(): void {
    this.moment = 1
    this.inFlight.fill(0)
    this.last.fill(0)
    this.hot = this.durable = this.fresh = this.writing = this.bits = this.inherited = 0
  }

  hasSince(moment: number): boolean {
    if (this.inherited !== 0 && moment < 1) return true
    for (let at = 0; at < this.extents; at++) if (this.isSince(at, moment)) return true
    return false
  }

  forEachSince(moment: number, found: (extent: number, row: Row) => void): void {
    for (let at = 0; at < this.extents; at++)
      if (this.isSince(at, moment) || (moment < 1 && (this.inherited & (1 << at)) !== 0))
        found(at, null)
  }

  forEachIdle(moment: number, found: (extent: number) => void): void {
    for (let at = 0; at < this.extents; at++) if (this.isIdle(at, moment)) found(at)
  }

  /** Whether the extent may leave the log. */
  isIdle(extent: number, moment: number): boolean {
    const durable = (this.durable & (1 << extent)) !== 0
    return durable && this.inFlight[extent] === 0 && this.last[extent]! <= moment
  }

  private isSince(extent: number, moment: number): boolean {
    if ((this.hot & (1 << extent)) === 0) return false
    return this.inFlight[extent]! > 0 || this.last[extent]! > moment
  }

  /** Whether the extent is in the log already. */
  enter(extent: number): boolean {
    const bit = 1 << extent
    this.inFlight[extent]!++
    if ((this.hot & bit) === 0) {
      this.hot |= bit
      this.fresh |= bit
      this.bits |= bit
    }
    return (this.durable & bit) !== 0
  }

  exit(extent: number): void {
    this.inFlight[extent]!--
    this.last[extent] = ++this.moment
  }

  transfer(codec: Codec, moments: (moment: number) => number): void {
    const { pack, extents } = codec
    this.moment = moments(this.moment)
    this.hot = codec.extentSet(this.hot)
    for (let at = 0; at < extents.length; at++) {
      const extent = extents[at]!
      this.inFlight[extent] = pack.byte(this.inFlight[extent]!)
      const isHot = (this.hot & (1 << extent)) !== 0
      this.last[extent] = moments(isHot ? this.last[extent]! : 0)
    }
    this.durable = codec.extentSet(this.durable)
    this.fresh = codec.extentSet(this.fresh)
    this.writing = codec.extentSet(this.writing)
    this.bits = codec.extentSet(this.bits)
    this.inherited = codec.extentSet(this.inherited)
  }
}
