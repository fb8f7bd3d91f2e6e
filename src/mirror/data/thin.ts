import { KiB } from '../../base/size.ts'
import { extentZero } from '../../device/extents.ts'
import { Operation, Request } from '../../device/request.ts'
import { pageBytes } from '../layout.ts'
import type { Leg } from '../leg.ts'

/**
 * Zeroes shorter than this, in a place where the leg has data, are written together with their
 * neighbours: a request of their own costs more than the bytes.
 */
const zeroBytesMin = 64 * KiB
/** Gaps of up to this many pages between two places to copy are read along with them. */
const gapPagesMax = 4
/** Questions about the allocation of one range at most: a peer may answer a few bytes at a time. */
const questionsMax = 64

/** Bytes of a device, `to` not included. */
export interface Run {
  readonly from: number
  readonly to: number
}

/**
 * The runs that the device knows to read as zeroes; none when it cannot tell. Rejects when the leg
 * fails to answer.
 */
export async function zeroesOf(leg: Leg, from: number, to: number): Promise<Run[]> {
  const zeroes: { from: number; to: number }[] = []
  if (leg.device.facts?.status !== 'native') return zeroes
  for (let at = from, asked = 0; at < to && asked < questionsMax; asked++) {
    const child = await leg.carryOut(Operation.status, at, to - at, null)
    const { lengths, flags } = child.extents
    for (const [index, length] of lengths.entries()) {
      const last = zeroes.at(-1)
      if ((flags[index]! & extentZero) === 0) at += length
      else if (last?.to === at) last.to = at += length
      else zeroes.push({ from: at, to: (at += length) })
    }
    child.release()
  }
  return zeroes
}

/** Whether one of the runs contains the whole range. */
export function covers(runs: readonly Run[], { from, to }: Run): boolean {
  return runs.some((run) => run.from <= from && to <= run.to)
}

/** What becomes of one page of a range that is being copied. */
export const Page = { leave: 0, copy: 1, zero: 2, lost: 3 } as const
type Page = (typeof Page)[keyof typeof Page]

/**
 * A range that is being copied, page by page: what the leg lacks of it, what of that is zero, and
 * what no leg could read. It begins and ends where pages do.
 */
export class Plan {
  readonly offset: number
  private readonly pages: Uint8Array

  /** `lacks`: the pages to copy, null for all. */
  constructor(offset: number, length: number, lacks: ((page: number) => boolean) | null) {
    this.offset = offset
    this.pages = new Uint8Array(length / pageBytes)
    for (let page = 0; page < this.pages.length; page++)
      this.pages[page] = lacks === null || lacks(page) ? Page.copy : Page.leave
  }

  /** A plan of the same range that copies what could not be read. */
  lost(): Plan {
    const lacks = (page: number): boolean => this.pages[page] === Page.lost
    return new Plan(this.offset, this.pages.length * pageBytes, lacks)
  }

  /** Bytes of the pages of this kind. */
  bytesOf(kind: Page): number {
    return this.pages.reduce((sum, page) => sum + (page === kind ? pageBytes : 0), 0)
  }

  /** Turns the pages of kind `from` that lie wholly within the runs into `to`. */
  turn(runs: readonly Run[], from: Page, to: Page): void {
    for (const run of runs) {
      const first = Math.max(0, Math.ceil((run.from - this.offset) / pageBytes))
      const end = Math.min(this.pages.length, Math.floor((run.to - this.offset) / pageBytes))
      for (let page = first; page < end; page++)
        if (this.pages[page] === from) this.pages[page] = to
    }
  }

  /** Runs of pages of one kind, within `bounds` if given. */
  runs(kind: Page, bounds?: Run): Run[] {
    return this.collect(kind, 0, bounds)
  }

  /** The ranges to read so that all pages to copy are read in few requests. */
  reads(): Run[] {
    return this.collect(Page.copy, gapPagesMax)
  }

  /**
   * Finds zero pages in what was read from `run.from` on. Those that the leg has as zeroes already,
   * see `there`, are left alone; of the others short runs are written instead of zeroed.
   */
  sift(run: Run, read: Request, there: readonly Run[]): void {
    let at = run.from
    for (const segment of read.segments) at = this.siftSegment(segment, at)
    this.turn(there, Page.zero, Page.leave)
    for (const zeroes of this.runs(Page.zero, run))
      if (zeroes.to - zeroes.from < zeroBytesMin && this.besideCopy(zeroes))
        this.turn([zeroes], Page.zero, Page.copy)
  }

  private siftSegment(segment: Buffer, at: number): number {
    const end = at + segment.length
    for (let from = at + ((pageBytes - (at % pageBytes)) % pageBytes); from + pageBytes <= end;) {
      const page = (from - this.offset) / pageBytes
      const start = from - at
      if (
        this.pages[page] === Page.copy &&
        segment.compare(zeroPage, 0, pageBytes, start, start + pageBytes) === 0
      )
        this.pages[page] = Page.zero
      from += pageBytes
    }
    return end
  }

  private besideCopy({ from, to }: Run): boolean {
    const first = (from - this.offset) / pageBytes
    const end = (to - this.offset) / pageBytes
    return this.pages[first - 1] === Page.copy || this.pages[end] === Page.copy
  }

  private collect(kind: Page, gapMax: number, bounds?: Run): Run[] {
    const runs: { from: number; to: number }[] = []
    const first = bounds === undefined ? 0 : (bounds.from - this.offset) / pageBytes
    const end = bounds === undefined ? this.pages.length : (bounds.to - this.offset) / pageBytes
    for (let page = first; page < end; page++) {
      if (this.pages[page] !== kind) continue
      const from = this.offset + page * pageBytes
      const last = runs.at(-1)
      if (last !== undefined && from - last.to <= gapMax * pageBytes) last.to = from + pageBytes
      else runs.push({ from, to: from + pageBytes })
    }
    return runs
  }
}

const zeroPage = Buffer.alloc(pageBytes)

/**
 * Reads the range and resolves to whether it is all zeroes. Meant for a leg that would write zeroes
 * byte by byte. Rejects when the read fails.
 */
export async function readsZero(leg: Leg, { from, to }: Run): Promise<boolean> {
  const read = await leg.carryOut(Operation.read, from, to - from, null)
  const plan = new Plan(from, to - from, null)
  plan.sift({ from, to }, read, [])
  read.release()
  return plan.bytesOf(Page.copy) === 0
}
