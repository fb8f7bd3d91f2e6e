import { Bitmap } from '../base/bitmap.ts'
import type { Timer } from '../base/clock.ts'
import { Ring } from '../base/ring.ts'
import { blockBytesOf, setBlocks } from './blocks.ts'
import { syncDirtyMaps, writeMap } from './dirty.ts'
import { flushLegs } from './flushing.ts'
import { pageOfBit } from './layout.ts'
import type { WriteLog } from './rules/run.ts'
import type { Volume } from './volume.ts'

/** An extent in the intent log: writes to it need no metadata. */
export class HotExtent {
  readonly index: number
  /** Writes under way. */
  inFlight = 0
  /** `IntentLog.moment` when the last write to it settled. */
  lastMoment = 0
  /** Whether its bit is on every leg in sync. */
  durable = false
  /** A bit for each block that was written to since every leg had flushed what was before. */
  readonly row: Uint8Array

  constructor(index: number, rowBytes: number) {
    this.index = index
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
 * Which extents may differ between legs if the head dies now. A bit is durable on every leg in
 * sync before the first write to its extent is submitted to any leg, and stays until every leg
 * has flushed the last one, or the dirty map that says otherwise is durable.
 */
export class IntentLog implements WriteLog {
  readonly bits: Bitmap
  /** Rises with every write that settles. */
  moment = 1
  private readonly volume: Volume
  private readonly epoch: number
  private readonly hot = new Map<number, HotExtent>()
  /** What an earlier run left; null once it is in the dirty maps of whoever lacks it. */
  private inherited: Bitmap | null = null
  /** Writes that wait for the next pages to be written, and the extents those will hold. */
  private waiting: IntentHolder[] = []
  private fresh: HotExtent[] = []
  private readonly pages = new Set<number>()
  /** Writes that wait until there is room for more hot extents. */
  private readonly crowd = new Ring<IntentHolder>()
  private pumping = false
  /** Resolves when no page is left to be written. */
  private pumped: Promise<void> = Promise.resolve()
  private cleaning = false
  /** Resolves when the cleaning under way has ended. */
  private cleaned: Promise<void> = Promise.resolve()
  private idleMark = 0
  private readonly extentSize: number
  private readonly blockBytes: number
  /** What settled by this moment no leg that takes part can lose any more. */
  private flushedMoment = 0
  /** Without a log: writes under way, of which nobody notes the extents. */
  private unlogged = 0
  private timer: Timer | null = null

  constructor(volume: Volume, extents: number) {
    this.volume = volume
    this.epoch = volume.epoch
    this.bits = new Bitmap(extents)
    this.extentSize = volume.extentSize
    this.blockBytes = blockBytesOf(volume.extentSize)
  }

  get hotCount(): number {
    return this.hot.size
  }

  /** Whether the extents are in the log already; otherwise the holder is told by `logged`. */
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
      void this.clean(false)
      return false
    }
    return this.enterEach(holder)
  }

  private enterEach(holder: IntentHolder): boolean {
    let durable = true
    for (let index = holder.firstExtent; index <= holder.lastExtent; index++) {
      let extent = this.hot.get(index)
      if (extent === undefined) {
        extent = new HotExtent(index, this.extentSize / this.blockBytes / 8)
        this.hot.set(index, extent)
        this.fresh.push(extent)
        this.bits.set(index)
        this.pages.add(pageOfBit(index))
      }
      durable &&= extent.durable
      this.note(extent, holder)
      extent.inFlight++
      holder.hot.push(extent)
    }
    if (durable) return true
    this.waiting.push(holder)
    this.keepTime()
    void this.pump()
    if (this.hot.size > this.volume.settings.hotExtentsMax) void this.clean(false)
    return false
  }

  /** Remembers which blocks of the extent the holder writes to. */
  private note(extent: HotExtent, { rangeFrom, rangeTo }: IntentHolder): void {
    const { extentSize, blockBytes } = this
    const { row, index } = extent
    if (extent.inFlight === 0 && extent.lastMoment <= this.flushedMoment) row.fill(0)
    const base = index * extentSize
    const first = Math.floor(Math.max(0, rangeFrom - base) / blockBytes)
    const last = Math.floor((Math.min(extentSize, rangeTo - base) - 1) / blockBytes)
    setBlocks(row, first, last)
  }

  /** A flush has ended. What an absent leg had not flushed was set aside when it left. */
  flushed(): void {
    let least = this.moment
    for (const leg of this.volume.writers) least = Math.min(least, leg.flushedMoment)
    this.flushedMoment = least
  }

  /** The write settled: every leg that stays answered it. */
  exit(holder: IntentHolder): void {
    const moment = ++this.moment
    const { hot } = holder
    for (const extent of hot) {
      extent.inFlight--
      extent.lastMoment = moment
    }
    hot.length = 0
    if (!this.volume.settings.intentLog) this.unlogged--
    if (this.crowd.length > 0) void this.clean(false)
  }

  /** Takes over what an earlier run left in the log, until `started`. */
  inherit(bits: Bitmap): void {
    this.inherited = bits
    this.bits.merge(bits)
    // It may be in the log of one leg only, which may go.
    for (let bit = bits.next(0); bit !== -1; bit = bits.next(bit + 1))
      this.pages.add(pageOfBit(bit))
  }

  /**
   * The volume runs: the source has flushed what was inherited, and it is durable that all others
   * lack it.
   */
  started(): void {
    const { inherited } = this
    this.inherited = null
    // Without a log `prepare` set every bit, and nothing may clear one while the volume runs.
    if (inherited === null || !this.volume.settings.intentLog) return
    for (let bit = inherited.next(0); bit !== -1; bit = inherited.next(bit + 1)) {
      this.bits.clear(bit)
      this.pages.add(pageOfBit(bit))
    }
    void this.pump()
  }

  /**
   * Before the volume is served, or goes on after `cleanAll`: every leg in sync has what was
   * inherited. Without a log every extent counts as hot for as long as the volume runs.
   */
  async prepare(): Promise<void> {
    if (!this.volume.settings.intentLog) {
      this.bits.setAll()
      for (let page = 0; page <= pageOfBit(this.bits.length - 1); page++) this.pages.add(page)
    }
    await this.pump()
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
    for (const extent of this.hot.values())
      if (extent.inFlight === 0 && extent.durable && extent.lastMoment <= moment)
        found(extent.index)
  }

  stop(): void {
    this.timer?.cancel()
    this.timer = null
  }

  /** Empties the log; no write is under way. */
  async cleanAll(): Promise<void> {
    if (this.volume.settings.intentLog) await this.clean(true)
    else {
      const { volume } = this
      await flushLegs(volume, this.moment)
      // From now on only the dirty map says what an absent leg may have lost.
      for (const { dirty, unflushed } of volume.legs)
        if (unflushed !== null) dirty?.missSet(unflushed)
      await syncDirtyMaps(volume)
      await volume.membership.settled()
      if (volume.epoch !== this.epoch) return
      this.bits.clearAll()
      for (let page = 0; page <= pageOfBit(this.bits.length - 1); page++) this.pages.add(page)
      await this.pump()
    }
    await this.pumped
  }

  /** Writes the pages that changed until there are none. One page write serves all who wait. */
  private async pump(): Promise<void> {
    if (this.pumping) return
    this.pumping = true
    this.pumped = this.writeBatches()
    await this.pumped
  }

  private async writeBatches(): Promise<void> {
    // Who came while the page of its extents was being written waits for no other page.
    while ((this.pages.size > 0 || this.waiting.length > 0) && this.volume.epoch === this.epoch)
      await this.volume.maps.run(() => this.writeBatch())
    // In the turn that found nothing left, or what comes in between would wait for ever.
    this.pumping = false
  }

  private async writeBatch(): Promise<void> {
    const { volume, waiting, fresh } = this
    const pages = [...this.pages]
    this.pages.clear()
    this.waiting = []
    this.fresh = []
    await writeMap(volume, volume.run.keepers, 0, this.bits, pages)
    // A restart may begin from a leg alone whose leaving is not durable: its log would lack this.
    await volume.membership.settled()
    if (volume.epoch !== this.epoch) return
    for (const extent of fresh) extent.durable = true
    for (const holder of waiting) holder.logged()
  }

  private keepTime(): void {
    this.timer ??= this.volume.clock.timer(this.volume.settings.intentIdleMs, () => {
      this.timer = null
      if (this.volume.epoch !== this.epoch || this.hot.size === 0) return
      this.keepTime()
      const mark = this.idleMark
      this.idleMark = this.moment
      void this.cleanUntil(mark)
    })
  }

  /** Makes room: everything idle, or what was idle for longest. */
  private async clean(everything: boolean): Promise<void> {
    if (everything) {
      while (this.cleaning) await this.cleaned
      await this.cleanUntil(this.moment)
      return
    }
    const excess = this.hot.size - Math.floor(this.volume.settings.hotExtentsMax / 2)
    if (this.cleaning || excess <= 0) return
    const idle = [...this.hot.values()].filter((extent) => extent.inFlight === 0 && extent.durable)
    if (idle.length === 0) return
    idle.sort((one, other) => one.lastMoment - other.lastMoment)
    await this.cleanUntil(idle[Math.min(excess, idle.length) - 1]!.lastMoment)
  }

  /** Takes out what was last written to before or at `moment`. */
  private cleanUntil(moment: number): Promise<void> {
    if (!this.cleaning) {
      this.cleaning = true
      this.cleaned = this.cleanNow(moment)
    }
    return this.cleaned
  }

  private async cleanNow(moment: number): Promise<void> {
    let failed = false
    try {
      await this.cleanStep(moment)
    } catch (error) {
      failed = true
      this.volume.log.debug({ err: error }, 'the intent log was not cleaned')
    }
    this.cleaning = false
    // Where nothing can be flushed there will be no room, and who waits for it would wait for ever.
    this.admit(failed ? Infinity : 2 * this.volume.settings.hotExtentsMax)
    // With nothing under way any more, who waits would wait until the extents have been idle.
    const current = this.volume.epoch === this.epoch
    if (this.crowd.length > 0 && current && !failed) void this.clean(false)
  }

  private async cleanStep(moment: number): Promise<void> {
    const { volume } = this
    // At a start it is not durable yet which leg is the source: the next may choose another.
    if (volume.word === 'starting') return
    const idle = [...this.hot.values()].filter(
      (extent) => extent.inFlight === 0 && extent.durable && extent.lastMoment <= moment,
    )
    if (idle.length === 0) return
    const latest = idle.reduce((last, extent) => Math.max(last, extent.lastMoment), 0)
    await flushLegs(volume, latest)
    if (volume.epoch !== this.epoch) return
    for (const leg of volume.legs)
      if (leg.unflushed !== null && leg.dirty !== null)
        for (const { index } of idle)
          if (leg.unflushed.extents.has(index)) leg.dirty.missFrom(leg.unflushed, index)
    await syncDirtyMaps(volume)
    // Until it is durable who left, only this log says where the legs differ.
    await volume.membership.settled()
    if (volume.epoch !== this.epoch) return
    for (const extent of idle) {
      if (extent.inFlight > 0 || extent.lastMoment > latest) continue
      this.hot.delete(extent.index)
      this.bits.clear(extent.index)
      this.pages.add(pageOfBit(extent.index))
    }
    await this.pump()
  }

  private admit(bound: number): void {
    while (this.crowd.length > 0 && this.hot.size <= bound && this.volume.epoch === this.epoch) {
      const holder = this.crowd.shift()!
      if (this.enterEach(holder)) holder.logged()
    }
  }
}
