import { systemError } from '../../base/errors.ts'
import { MiB } from '../../base/size.ts'
import { failed } from '../departure.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import { blockBytesOf, firstBlock, lastBlock } from './blocks.ts'
import { covers, zeroesOf, type Run } from './thin.ts'

/** Bytes whose allocation is asked about at once. Clients' writes there wait for the answers. */
const stretchBytes = 64 * MiB

/** A range, and the extents in it that the leg lacks. */
export interface Stretch extends Run {
  readonly extents: readonly number[]
}

/**
 * The quick part of a copy: extents that the source knows to be zero. Nothing of them is read, and
 * nothing is written where the leg knows the same; elsewhere they are zeroed, which may free space
 * that the rest of the copy needs.
 */
export class Skim {
  private readonly volume: Volume
  private readonly leg: Leg
  private readonly alive: () => boolean

  constructor(volume: Volume, leg: Leg, alive: () => boolean) {
    this.volume = volume
    this.leg = leg
    this.alive = alive
  }

  /**
   * The next stretch from extent `from` on with extents that the leg lacks and that are not `busy`;
   * null at the end, or when the source cannot tell what is zero.
   */
  next(from: number, busy: (extent: number) => boolean): Stretch | null {
    const { volume, leg } = this
    const source = volume.readable[0]
    if (leg.dirty === null || source?.device.facts?.status !== 'native') return null
    const { bits } = leg.dirty
    const extents: number[] = []
    const most = Math.max(1, Math.floor(stretchBytes / volume.extentSize))
    for (let bit = bits.next(from); bit !== -1; bit = bits.next(bit + 1)) {
      if (extents.length > 0 && bit - extents[0]! >= most) break
      if (!busy(bit)) extents.push(bit)
    }
    if (extents.length === 0) return null
    const bounds = extents.map((extent) => this.rangeOf(extent))
    return { from: bounds[0]!.from, to: bounds.at(-1)!.to, extents }
  }

  /**
   * Zeroes on the leg what the source knows to be zero in a stretch, which is locked. Resolves to
   * the extents that are now zero on both, and adds the name of the source to `sources`. Never
   * rejects.
   */
  async carryOut({ from, to, extents }: Stretch, sources: Set<string>): Promise<Set<number>> {
    const { volume, leg } = this
    const source = volume.readable[0]
    const none = new Set<number>()
    if (source === undefined) return none
    const ask = (one: Leg): Promise<Run[]> => zeroesOf(one, from, to).catch(() => [])
    const [zero, there] = await Promise.all([ask(source), ask(leg)])
    // A source that left meanwhile may have lost what it had not flushed.
    if (!this.alive() || !volume.readable.includes(source)) return none
    const mayZero = leg.device.facts!.fastZero
    const done = new Set<number>()
    const missing: { from: number; to: number }[] = []
    for (const extent of extents) {
      const range = this.rangeOf(extent)
      if (!covers(zero, range)) continue
      const needed = !covers(there, range)
      if (needed && !mayZero) continue
      done.add(extent)
      if (!needed) continue
      const last = missing.at(-1)
      if (last?.to === range.from) last.to = range.to
      else missing.push(range)
    }
    if (done.size > 0) sources.add(source.name)
    for (const range of missing) if (!(await this.zero(range))) return none
    return done
  }

  /** The bytes from the first to the last block that the leg lacks of an extent. */
  private rangeOf(extent: number): { from: number; to: number } {
    const { extentSize, record } = this.volume
    const base = extent * extentSize
    const row = this.leg.dirty!.rowOf(extent)
    const blockBytes = blockBytesOf(extentSize)
    const from = row === null ? 0 : firstBlock(row) * blockBytes
    const to = row === null ? extentSize : (lastBlock(row) + 1) * blockBytes
    return { from: base + from, to: Math.min(base + to, record!.dataSize) }
  }

  private async zero({ from, to }: Run): Promise<boolean> {
    const { volume, leg } = this
    if (!this.alive()) return false
    try {
      await leg.zero(from, to - from)
      return this.alive()
    } catch (error) {
      if (this.alive()) failed(volume, leg, 'write', systemError(error, 'resync'))
      return false
    }
  }
}
