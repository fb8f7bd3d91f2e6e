import { assert } from '../base/errors.ts'
import { roundDown } from '../base/size.ts'
import type { Claimed, Device, Driver, DriverHost, Facts, Fencing } from '../device/device.ts'
import { claimedOf, digest, fencingOf, weakest } from '../device/facts.ts'
import { Operation, type Request } from '../device/request.ts'
import { beginSplit, endSplit, splitOff } from '../device/split.ts'

/** Joins its parts one after the other into one device. */
export class LinearDriver implements Driver {
  readonly type = 'linear'
  readonly children: readonly Device[]
  readonly stamp?: () => Promise<string>
  readonly claim?: (fence: number) => Promise<void>
  readonly claimed?: () => Promise<Claimed>
  /** Null until every part is known. */
  facts: Facts | null = null
  /** The byte where each part ends; empty until every part is known. */
  private ends: number[] = []
  private host: DriverHost | null = null

  constructor(parts: readonly Device[]) {
    assert(parts.length > 0, 'a linear has parts')
    this.children = parts
    const drivers = parts.map((part) => part.driver)
    if (drivers.every((driver) => driver.stamp !== undefined))
      this.stamp = async () => {
        return (await Promise.all(drivers.map((driver) => driver.stamp!()))).join()
      }
    if (drivers.some((driver) => driver.claim !== undefined))
      this.claim = async (fence) => {
        await Promise.all(drivers.map((driver) => driver.claim?.(fence) ?? Promise.resolve()))
      }
    const asked = drivers.filter((driver) => driver.claimed !== undefined)
    if (asked.length > 0)
      this.claimed = async () =>
        claimedOf(await Promise.all(asked.map((driver) => driver.claimed!())))
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    for (const part of this.children) part.watch(this.update)
    this.update()
    return Promise.resolve()
  }

  close(): Promise<void> {
    for (const part of this.children) part.unwatch(this.update)
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  fencing(): Fencing {
    return fencingOf(this.children.map(({ driver }) => driver))
  }

  submit(request: Request): void {
    if (request.operation === Operation.flush) {
      beginSplit(request, this)
      for (const part of this.children)
        if (part.facts!.flush !== 'none') part.submit(splitOff(request, 0, 0, 0))
      endSplit(request)
      return
    }
    const first = this.partAt(request.offset)
    const start = this.startOf(first)
    if (request.offset + request.length <= this.ends[first]!) {
      request.offset -= start
      this.children[first]!.submit(request)
    } else this.submitSplit(request, first)
  }

  private submitSplit(request: Request, index: number): void {
    beginSplit(request, this)
    for (let from = 0; from < request.length; index++) {
      const offset = request.offset + from
      const length = Math.min(request.length - from, this.ends[index]! - offset)
      const part = splitOff(request, from, length, offset - this.startOf(index))
      this.children[index]!.submit(part)
      from += length
    }
    endSplit(request)
  }

  private startOf(index: number): number {
    return index === 0 ? 0 : this.ends[index - 1]!
  }

  private partAt(offset: number): number {
    let low = 0
    let high = this.ends.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (offset < this.ends[middle]!) high = middle
      else low = middle + 1
    }
    return low
  }

  /**
   * Goes online once every part is known, and stays so: when a part goes away, only its own range
   * waits or fails. But when a newer head has one part, this one may not use any of them.
   */
  private readonly update = (): void => {
    const fenced = this.children.find(({ state }) => state.code === 'FENCED')
    if (fenced !== undefined) {
      this.host!.offline('failed', `${fenced.path}: ${fenced.state.reason}`, 'FENCED')
      return
    }
    const facts: Facts[] = []
    const absent: string[] = []
    for (const part of this.children) {
      if (part.facts === null) absent.push(`${part.path} is ${part.state.word}`)
      else facts.push(part.facts)
    }
    if (absent.length > 0) {
      this.host!.offline('offline', absent.join(', '))
      return
    }
    const misfit = this.lay(facts)
    if (misfit !== null) {
      this.host!.offline('failed', misfit)
      return
    }
    const unwell = this.children.filter((part) => part.state.word !== 'online')
    const reason = unwell.map((part) => `${part.path} is ${part.state.word}`).join(', ')
    this.facts = combine(facts, this.ends.at(-1)!)
    this.host!.online(this.facts, unwell.length > 0 ? 'degraded' : 'online', reason)
  }

  /**
   * Finds where each part ends. Returns null, or why that is impossible. A part keeps the size it
   * was first seen with, because a change would shift the following ones: only the last may grow.
   */
  private lay(facts: readonly Facts[]): string | null {
    const blockSize = Math.max(...facts.map((part) => part.blockSize))
    const ends: number[] = []
    for (const [index, part] of facts.entries()) {
      const { path } = this.children[index]!
      const start = ends.at(-1) ?? 0
      const before = this.ends.length > 0 ? this.ends[index]! - start : part.size
      if (part.size < before)
        return `${path} shrank from ${before} to ${part.size} bytes: what it held is lost`
      const grown = index === facts.length - 1 ? part.size : before
      // Larger offsets would not be exact: a linear does not grow beyond that.
      const size = start + grown > Number.MAX_SAFE_INTEGER ? before : grown
      if (start + size > Number.MAX_SAFE_INTEGER)
        return `its parts have more than ${Number.MAX_SAFE_INTEGER} bytes, the most of any device`
      if (size % blockSize !== 0)
        return `${path} has ${size} bytes, no multiple of the largest block size, ${blockSize}`
      ends.push(start + size)
    }
    this.ends = ends
    return null
  }
}

function combine(parts: readonly Facts[], size: number): Facts {
  const blockSize = Math.max(...parts.map((part) => part.blockSize))
  const payloadMax = Math.min(...parts.map((part) => part.payloadMax))
  return {
    size,
    blockSize,
    preferredBlockSize: Math.max(...parts.map((part) => part.preferredBlockSize)),
    payloadMax: Math.max(blockSize, roundDown(payloadMax, blockSize)),
    readOnly: parts.some((part) => part.readOnly),
    // A part that cannot be flushed is no reason not to flush the others.
    flush: parts.some((part) => part.flush !== 'none') ? 'native' : 'none',
    fua: weakest(parts.map((part) => part.fua)),
    trim: weakest(parts.map((part) => part.trim)),
    writeZeroes: weakest(parts.map((part) => part.writeZeroes)),
    fastZero: parts.every((part) => part.fastZero),
    status: 'native',
    rotational: parts.some((part) => part.rotational),
    identity: digest(parts.map((part) => part.identity).join()),
    bootId: digest(parts.map((part) => part.bootId).join()),
  }
}
