import { StorageError, systemError } from '../../base/errors.ts'
import { Operation, Request } from '../../device/request.ts'
import { failed, readFailed } from '../departure.ts'
import { pageBytes } from '../layout.ts'
import type { Leg } from '../leg.ts'
import { unreachable } from '../rules/verdicts.ts'
import type { Volume } from '../volume.ts'
import { repairSoon } from './reads.ts'
import { Page, readsZero, zeroesOf, type Plan, type Run } from './thin.ts'

/** Reads of one range that may fail before all that is left of it counts as unreadable. */
const failedReadsMax = 24

/** A range in bytes that no leg could read, and the answer of the last leg asked. */
export interface Unreadable {
  readonly leg: string
  readonly offset: number
  readonly length: number
  readonly reason: string
}

/**
 * Copies one locked range from a leg in sync to a leg that lacks it. What the source knows to be
 * zero is not read. What reads as zeroes is zeroed, not written, and left alone where the target is
 * zero already. What cannot be read is narrowed down to the page.
 */
export class Copy {
  readonly plan: Plan
  readonly unreadable: Unreadable[] = []
  /** Names of the legs that were read from. */
  readonly sources: Set<string>
  private readonly volume: Volume
  private readonly leg: Leg
  private readonly alive: () => boolean
  private readonly used = new Set<Leg>()
  private readonly copied: Run[] = []
  private failedReads = 0
  private whole = true

  constructor(
    task: { volume: Volume; leg: Leg; alive: () => boolean; sources: Set<string> },
    plan: Plan,
  ) {
    this.volume = task.volume
    this.leg = task.leg
    this.alive = task.alive
    this.sources = task.sources
    this.plan = plan
  }

  /** Bytes that were read and written. */
  get bytes(): number {
    return this.copied.reduce((sum, { from, to }) => sum + to - from, 0)
  }

  /**
   * Copies what the plan says within `bounds`. Resolves to false if the leg may still lack some of
   * it, other than the unreadable pages, because it or a source left meanwhile.
   */
  async run(bounds: Run): Promise<boolean> {
    const { plan, leg } = this
    const source = this.source(new Set())
    if (source === undefined) return false
    const [known, there] = await Promise.all([this.ask(source, bounds), this.ask(leg, bounds)])
    if (!this.alive()) return false
    this.used.add(source)
    plan.turn(known, Page.copy, Page.zero)
    plan.turn(there, Page.zero, Page.leave)
    for (const run of plan.reads()) {
      await this.copy(run, there)
      if (!this.whole || !this.alive()) return false
    }
    if (!this.trusted()) return false
    for (const run of plan.runs(Page.zero)) await this.zero(run)
    return this.whole && this.alive()
  }

  /**
   * The zeroes that the leg knows of. A failed question counts as none: the read that follows tells
   * why.
   */
  private ask(leg: Leg, { from, to }: Run): Promise<Run[]> {
    return zeroesOf(leg, from, to).catch(() => [])
  }

  /**
   * Whether every leg that was read from is still in sync: one that left may have lost what it had.
   */
  private trusted(): boolean {
    for (const source of this.used) if (!this.good.includes(source)) this.whole = false
    return this.whole
  }

  private async copy(run: Run, there: readonly Run[]): Promise<void> {
    const read = await this.read(run)
    if (read === null) {
      if (this.alive() && this.whole) await this.narrow(run, there)
      return
    }
    if (this.alive() && this.trusted()) {
      this.plan.sift(run, read, there)
      await Promise.all(this.plan.runs(Page.copy, run).map((part) => this.write(part, run, read)))
    }
    read.release()
  }

  /** Tries the halves of a range that no leg could read, down to a page. */
  private async narrow(run: Run, there: readonly Run[]): Promise<void> {
    const pages = (run.to - run.from) / pageBytes
    if (pages === 1 || this.failedReads >= failedReadsMax) {
      this.plan.turn([run], Page.copy, Page.lost)
      return
    }
    const middle = run.from + Math.ceil(pages / 2) * pageBytes
    // The halves will report it more precisely.
    this.unreadable.pop()
    const halves = [
      { from: run.from, to: middle },
      { from: middle, to: run.to },
    ]
    for (const half of halves) if (this.alive() && this.whole) await this.copy(half, there)
  }

  /**
   * Reads the range from a leg in sync; the caller releases the request. Resolves to null when no
   * leg could read it, which is noted, or none is left.
   */
  private async read({ from, to }: Run): Promise<Request | null> {
    const { volume } = this
    let worst: Unreadable | null = null
    const bad: Leg[] = []
    const tried = new Set<Leg>()
    // Choose anew each time: a leg that left since the start may lack it.
    for (let source = this.source(tried); source !== undefined; source = this.source(tried)) {
      tried.add(source)
      try {
        const read = await source.carryOut(Operation.read, from, to - from, null)
        this.sources.add(source.name)
        this.used.add(source)
        for (const leg of bad) repairSoon(volume, leg, from, to - from)
        return read
      } catch (error) {
        const failure = systemError(error, 'resync')
        if (this.alive() && readFailed(volume, source, failure)) bad.push(source)
        if (!unreachable.has(failure.code))
          worst = { leg: source.name, offset: from, length: to - from, reason: failure.message }
      }
      if (!this.alive()) return null
    }
    if (worst === null) this.whole = false
    else {
      this.failedReads++
      this.unreadable.push(worst)
    }
    return null
  }

  private source(tried: ReadonlySet<Leg>): Leg | undefined {
    return this.good.find((leg) => !tried.has(leg))
  }

  /** Legs that may be copied from. */
  private get good(): readonly Leg[] {
    return this.volume.readable
  }

  private async write(part: Run, run: Run, read: Request): Promise<void> {
    const length = part.to - part.from
    const write = Request.take(Operation.write, part.from, length, 0, this.leg)
    write.shareRange(read, part.from - run.from, length)
    this.copied.push(part)
    // If the leg left, `alive` is false by then and `gaveUp` reports nothing.
    await this.leg.carryOutWrite(write).catch((error: unknown) => {
      this.gaveUp(systemError(error, 'resync'))
    })
  }

  private async zero(run: Run): Promise<void> {
    const { leg } = this
    try {
      // Reading first saves space where zeroes would be written, and a new disk is empty anyway.
      const look = leg.device.facts?.writeZeroes !== 'native'
      if (look && (await readsZero(leg, run))) return
      if (this.whole && this.alive()) await leg.zero(run.from, run.to - run.from)
    } catch (error) {
      this.gaveUp(systemError(error, 'resync'))
    }
  }

  private gaveUp(error: StorageError): void {
    this.whole = false
    if (this.alive()) failed(this.volume, this.leg, 'write', error)
  }
}
