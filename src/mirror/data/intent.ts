import { Bitmap } from '../../base/bitmap.ts'
import type { Timer } from '../../base/clock.ts'
import { Ring } from '../../base/ring.ts'
import { pageOfBit } from '../layout.ts'
import type { Membership } from '../membership.ts'
import { isOver, type WriteLog } from '../rules/run.ts'
import type { Volume } from '../volume.ts'
import { blockBytesOf, setBlocks } from './blocks.ts'
import { allPages, type MapPages } from './dirty.ts'

/** An extent in the intent log: writes to it need no metadata. */
export class HotExtent {
  readonly index: number
  /** Writes under way. */
  inFlight = 0
  /** `IntentLog.moment` when the last write to it settled. */
  lastMoment = 0
  /** Whether its bit is on every leg in sync. */
  durable = false
  /** The first byte of the extent. */
  readonly from: number
  /** A bit for each block written to since every leg had flushed the writes before. */
  readonly row: Uint8Array

  constructor(index: number, from: number, rowBytes: number) {
    this.index = index
    this.from = from
    this.row = new Uint8Array(rowBytes)
  }
}

/** A write that wants its extents in the log. */
export interface IntentHolder {
  readonly firstExtent: number
  readonly lastExtent: number
  /** Bytes, `rangeTo` not included. */
  readonly rangeFrom: number
  readonly rangeTo: number
  /** Filled by `enter`, emptied by `exit`. */
  readonly hot: HotExtent[]
  /** The extents are in the log; called only when `enter` returned false. */
  logged(): void
}

/**
 * The extents that may differ between legs if the head dies now. A bit is durable on every leg in
 * sync before the first write to its extent is submitted to any leg, and stays until every leg has
 * flushed the last one, or the dirty map that says otherwise is durable. The rules decide when
 * pages are written and what may leave the log, see `maps.ts` and `cleaning.ts`.
 */
export class IntentLog implements WriteLog {
  readonly bits: Bitmap
  /** Rises with every write that settles. */
  moment = 1
  private readonly volume: Volume
  private readonly membership: Membership
  private readonly hot = new Map<number, HotExtent>()
  /** What an earlier run left; null once the maps of all legs that lack it say so. */
  private inherited: Bitmap | null = null
  /** Pages that changed, the extents that are new on them, and the writes that wait for these. */
  private next = new Batch()
  /** The batch that is being written. */
  private underWay = new Batch()
  /** Writes that wait until there is room for more hot extents. */
  private readonly crowd = new Ring<IntentHolder>()
  /** Whether the rules are about to be told that pages have changed. */
  private asking = false
  /** Called when the cleaning under way, or the run, has ended. */
  private whenCleaned: (() => void)[] = []
  private idleMark = 0
  private readonly extentSize: number
  private readonly blockBytes: number
  private readonly blockShift: number
  /** No leg that takes part can lose a write settled by this moment, see `safeMoment`. */
  private flushedMoment = 0
  /** Without a log: the number of writes under way; their extents are not recorded. */
  private unlogged = 0
  private timer: Timer | null = null

  constructor(volume: Volume, membership: Membership) {
    this.volume = volume
    this.membership = membership
    this.bits = new Bitmap(volume.extents)
    this.extentSize = volume.extentSize
    this.blockBytes = blockBytesOf(volume.extentSize)
    this.blockShift = Math.log2(this.blockBytes)
  }

  get hotCount(): number {
    return this.hot.size
  }

  /**
   * Returns true if the extents are in the log already; otherwise `holder.logged` is called later.
   */
  enter(holder: IntentHolder): boolean {
    if (!this.volume.settings.intentLog) {
      this.unlogged++
      return true
    }
    const { firstExtent, lastExtent } = holder
    if (firstExtent === lastExtent) {
      const extent = this.hot.get(firstExtent)
      if (extent?.durable === true) {
        this.note(extent, holder)
        extent.inFlight++
        holder.hot.push(extent)
        return true
      }
    }
    if (this.crowd.length > 0 || this.hot.size > 2 * this.volume.settings.hotExtentsMax) {
      this.crowd.push(holder)
      this.makeRoom()
      return false
    }
    return this.enterEach(holder)
  }

  private enterEach(holder: IntentHolder): boolean {
    let durable = true
    for (let index = holder.firstExtent; index <= holder.lastExtent; index++) {
      let extent = this.hot.get(index)
      if (extent === undefined) {
        const { extentSize, blockBytes } = this
        extent = new HotExtent(index, index * extentSize, extentSize / blockBytes / 8)
        this.hot.set(index, extent)
        this.next.fresh.push(extent)
        this.bits.set(index)
        this.next.pages.add(pageOfBit(index))
      }
      durable &&= extent.durable
      this.note(extent, holder)
      extent.inFlight++
      holder.hot.push(extent)
    }
    if (durable) return true
    this.next.waiting.push(holder)
    this.keepTime()
    this.askForPages()
    if (this.hot.size > this.volume.settings.hotExtentsMax) this.makeRoom()
    return false
  }

  /** Remembers which blocks of the extent the holder writes to. */
  private note(extent: HotExtent, holder: IntentHolder): void {
    const { row, from } = extent
    if (extent.inFlight === 0 && extent.lastMoment <= this.flushedMoment) row.fill(0)
    // Within an extent: a shift is enough.
    const first = (holder.rangeFrom - from) >> this.blockShift
    const last = (holder.rangeTo - 1 - from) >> this.blockShift
    if (first === last && holder.firstExtent === holder.lastExtent)
      row[first >> 3]! |= 1 << (first & 7)
    else this.noteBlocks(extent, holder)
  }

  private noteBlocks({ row, from }: HotExtent, { rangeFrom, rangeTo }: IntentHolder): void {
    const { extentSize, blockShift } = this
    const first = Math.max(0, rangeFrom - from) >> blockShift
    setBlocks(row, first, (Math.min(extentSize, rangeTo - from) - 1) >> blockShift)
  }

  /** A flush has ended. What an absent leg had not flushed was set aside when it left. */
  flushed(): void {
    let least = this.moment
    for (const leg of this.volume.writers) least = Math.min(least, leg.safeMoment)
    this.flushedMoment = least
    this.volume.marks.flushed()
  }

  /** The write settled: every leg that stays answered it. */
  exit(holder: IntentHolder): void {
    const moment = ++this.moment
    const { hot } = holder
    for (let extent = hot.pop(); extent !== undefined; extent = hot.pop()) {
      extent.inFlight--
      extent.lastMoment = moment
    }
    if (!this.volume.settings.intentLog) this.unlogged--
    if (this.crowd.length > 0) this.makeRoom()
  }

  /** Takes over what an earlier run left in the log, until `started`. */
  inherit(bits: Bitmap): void {
    this.inherited = bits
    this.bits.merge(bits)
    // Only one leg may have it in its log, and that leg may leave.
    for (let bit = bits.next(0); bit !== -1; bit = bits.next(bit + 1))
      this.next.pages.add(pageOfBit(bit))
  }

  /**
   * To be called when the volume runs: the source has flushed what was inherited, and the maps of
   * all others durably say that they lack it.
   */
  started(): void {
    const { inherited } = this
    this.inherited = null
    // Without a log `prepare` set every bit, and nothing may clear one while the volume runs.
    if (inherited === null || !this.volume.settings.intentLog) return
    for (let bit = inherited.next(0); bit !== -1; bit = inherited.next(bit + 1)) {
      this.bits.clear(bit)
      this.next.pages.add(pageOfBit(bit))
    }
    this.askForPages()
  }

  /**
   * To be called before the volume is served, and after `empty`. Without a log every extent counts
   * as hot for as long as the volume runs.
   */
  prepare(): void {
    if (this.volume.settings.intentLog) return
    this.bits.setAll()
    this.changeAllPages()
  }

  private changeAllPages(): void {
    for (const page of allPages(this.bits.length)) this.next.pages.add(page)
  }

  /**
   * Calls back with every extent written to after `moment`, or being written to, and with a row of
   * the blocks that may have been; null where that is not known.
   */
  forEachSince(moment: number, found: (extent: number, row: Uint8Array | null) => void): void {
    if (!this.volume.settings.intentLog) {
      if (this.hasSince(moment)) for (let at = 0; at < this.bits.length; at++) found(at, null)
      return
    }
    const { inherited } = this
    if (inherited !== null && moment < 1)
      for (let at = inherited.next(0); at !== -1; at = inherited.next(at + 1)) found(at, null)
    for (const { inFlight, lastMoment, index, row } of this.hot.values())
      if (inFlight > 0 || lastMoment > moment) found(index, row)
  }

  /** Whether anything was written after `moment`, or is being written. */
  hasSince(moment: number): boolean {
    const { inherited } = this
    if (inherited !== null && moment < 1 && inherited.count > 0) return true
    // Nothing has settled at the first moment.
    if (!this.volume.settings.intentLog)
      return this.unlogged > 0 || this.moment > Math.max(moment, 1)
    for (const extent of this.hot.values())
      if (extent.inFlight > 0 || extent.lastMoment > moment) return true
    return false
  }

  forEachIdle(moment: number, found: (extent: number) => void): void {
    if (!this.volume.settings.intentLog) {
      if (this.unlogged === 0) for (let at = 0; at < this.bits.length; at++) found(at)
      return
    }
    for (const extent of this.hot.values())
      if (extent.inFlight === 0 && extent.durable && extent.lastMoment <= moment)
        found(extent.index)
  }

  /** Stops the timer and ends the wait for a cleaning, because the run is over. */
  stop(): void {
    this.timer?.cancel()
    this.timer = null
    this.tellCleaned()
  }

  // Pages, when the rules want them.

  /** Everything that changes in one turn of the loop is written at once. */
  private askForPages(): void {
    if (this.asking) return
    this.asking = true
    void Promise.resolve().then(() => {
      this.asking = false
      this.membership.tell({ kind: 'log' })
    })
  }

  /** The pages to write now. `logged` follows when they are durable. */
  takePages(): MapPages {
    this.underWay = this.next
    this.next = new Batch()
    return { map: 0, bits: this.bits, pages: [...this.underWay.pages] }
  }

  /** The pages taken last are durable: the writes that wait for them go on. */
  logged(): void {
    const { fresh, waiting } = this.underWay
    this.underWay = new Batch()
    for (const extent of fresh) extent.durable = true
    for (const holder of waiting) holder.logged()
  }

  // Extents that leave the log.

  private keepTime(): void {
    this.timer ??= this.volume.clock.timer(this.volume.settings.intentIdleMs, () => {
      this.timer = null
      if (this.hot.size === 0) return
      this.keepTime()
      const mark = this.idleMark
      this.idleMark = this.moment
      this.clean(mark)
    })
  }

  /** Starts to take the extents that were idle for longest out of the log. */
  private makeRoom(): void {
    const excess = this.hot.size - Math.floor(this.volume.settings.hotExtentsMax / 2)
    if (this.isCleaning || excess <= 0) return
    const idle = [...this.hot.values()].filter((extent) => extent.inFlight === 0 && extent.durable)
    if (idle.length === 0) return
    idle.sort((one, other) => one.lastMoment - other.lastMoment)
    this.clean(idle[Math.min(excess, idle.length) - 1]!.lastMoment)
  }

  private get isCleaning(): boolean {
    return this.membership.run.cleaning !== null
  }

  /** Asks the rules to let extents last written to at `moment` or before leave the log. */
  private clean(moment: number): void {
    let latest = this.volume.settings.intentLog ? 0 : moment
    this.forEachIdle(moment, (at) => (latest = Math.max(latest, this.hot.get(at)?.lastMoment ?? 0)))
    if (latest > 0) this.membership.tell({ kind: 'clean', moment: latest })
  }

  /** Takes out the extents last written to at `moment` or before; 0: no leg could be flushed. */
  cleaned(moment: number): void {
    const { hotExtentsMax, intentLog } = this.volume.settings
    if (moment > 0) {
      if (!intentLog) {
        this.bits.clearAll()
        this.changeAllPages()
      } else
        this.forEachIdle(moment, (extent) => {
          this.forget(extent)
        })
      this.askForPages()
    }
    this.tellCleaned()
    // Where nothing can be flushed no room appears, and writes that wait for it would never end.
    this.admit(moment > 0 ? 2 * hotExtentsMax : Infinity)
    // When no write is under way, nothing else makes room before extents have been idle for long.
    if (this.crowd.length > 0) this.makeRoom()
  }

  private forget(extent: number): void {
    this.hot.delete(extent)
    this.bits.clear(extent)
    this.next.pages.add(pageOfBit(extent))
  }

  private tellCleaned(): void {
    const told = this.whenCleaned
    this.whenCleaned = []
    for (const resolve of told) resolve()
  }

  private async cleaningEnds(): Promise<void> {
    while (this.isCleaning) await new Promise<void>((resolve) => this.whenCleaned.push(resolve))
  }

  /**
   * Empties the log while no write is under way. Resolves when its pages are on disk, or when the
   * run has ended.
   */
  async empty(): Promise<void> {
    await this.cleaningEnds()
    this.clean(this.moment)
    await this.cleaningEnds()
    await this.membership.written('log')
  }

  private admit(bound: number): void {
    while (this.crowd.length > 0 && this.hot.size <= bound && !isOver(this.membership.run)) {
      const holder = this.crowd.shift()!
      if (this.enterEach(holder)) holder.logged()
    }
  }
}

/** Pages of the log that are written together, and what that makes durable. */
class Batch {
  readonly pages = new Set<number>()
  readonly fresh: HotExtent[] = []
  readonly waiting: IntentHolder[] = []
}
