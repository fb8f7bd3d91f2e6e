import { createHash } from 'node:crypto'
import { assert } from '../base/errors.ts'
import type { Ability, Device, Driver, DriverHost, Facts } from './device.ts'
import { Operation, type Request } from './request.ts'
import { beginSplit, endSplit, splitOff } from './split.ts'

/** Parts one after the other: the first byte of each follows the last byte of the one before. */
export class LinearDriver implements Driver {
  readonly type = 'linear'
  readonly children: readonly Device[]
  /** Where each part ends; empty until every part is known. */
  private ends: number[] = []
  private host: DriverHost | null = null

  constructor(parts: readonly Device[]) {
    assert(parts.length > 0, 'a linear has parts')
    this.children = parts
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

  submit(request: Request): void {
    if (request.operation === Operation.flush) {
      beginSplit(request)
      for (const part of this.children) part.submit(splitOff(request, 0, 0, 0))
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
    beginSplit(request)
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
   * Once every part is known the linear is online and stays so: a part that goes away makes only
   * its own span wait or fail.
   */
  private readonly update = (): void => {
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
    let end = 0
    this.ends = facts.map((part) => (end += part.size))
    const unwell = this.children.filter((part) => part.state.word !== 'online')
    const reason = unwell.map((part) => `${part.path} is ${part.state.word}`).join(', ')
    this.host!.online(combine(facts, end), unwell.length > 0 ? 'degraded' : 'online', reason)
  }
}

function combine(parts: readonly Facts[], size: number): Facts {
  return {
    size,
    blockSize: Math.max(...parts.map((part) => part.blockSize)),
    preferredBlockSize: Math.max(...parts.map((part) => part.preferredBlockSize)),
    payloadMax: Math.min(...parts.map((part) => part.payloadMax)),
    readOnly: parts.some((part) => part.readOnly),
    flush: weakest(parts.map((part) => part.flush)),
    fua: weakest(parts.map((part) => part.fua)),
    trim: weakest(parts.map((part) => part.trim)),
    // A part emulates by itself what it must: its wrapper sees the request too.
    writeZeroes: weakest(parts.map((part) => part.writeZeroes)),
    fastZero: parts.every((part) => part.fastZero),
    status: 'native',
    rotational: parts.some((part) => part.rotational),
    identity: digest(parts.map((part) => part.identity)),
    bootId: digest(parts.map((part) => part.bootId)),
  }
}

function weakest(abilities: readonly Ability[]): Ability {
  if (abilities.includes('none')) return 'none'
  // Emulated below is native here: the part's own wrapper does it.
  return 'native'
}

function digest(identities: readonly string[]): string {
  return createHash('sha256').update(identities.join()).digest('hex').slice(0, 32)
}
