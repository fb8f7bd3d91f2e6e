import { StorageError, systemError, type Code } from '../../base/errors.ts'
import { Operation, Request } from '../../device/request.ts'
import { failed, readFailed } from '../departure.ts'
import type { LegCaller } from '../leg-caller.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import { vouch } from './flushing.ts'
import { Job } from './job.ts'
import { LockedRange } from './locked.ts'

/**
 * A read or a question about allocation. A leg in sync answers it; when that leg fails, the next.
 */
export class ReadJob extends Job implements LegCaller {
  /** Legs to repair because they could not read; null until a leg has failed or left. */
  private failed: Leg[] | null = null

  protected begin(): void {
    this.failed = null
    this.next()
  }

  private next(): void {
    const { volume } = this
    const request = this.request!
    const leg = this.failed === null ? pick(volume, request.offset) : this.pickAnother()
    if (leg === null) {
      if (volume.readable.length === 0) this.wait()
      else this.fail(this.noLeg())
      return
    }
    leg.beginRead(request.offset + request.length)
    const { operation, offset, length, flags } = request
    leg.submit(Request.take(operation, offset, length, flags, leg), this)
  }

  legDone(leg: Leg, child: Request): void {
    leg.endRead()
    if (this.over()) {
      child.release()
      return
    }
    const { error } = child
    if (error !== null) {
      child.release()
      this.legFailed(leg, error)
      return
    }
    const request = this.request!
    if (child.operation === Operation.status) copyExtents(child, request)
    else request.adopt(child)
    child.release()
    const { failed, volume } = this
    if (failed !== null) for (const bad of failed) repairLater(volume, bad, request)
    this.error = null
    this.finish()
  }

  legLost(leg: Leg): void {
    leg.endRead()
    if (this.over()) return
    this.failed ??= []
    this.next()
  }

  private legFailed(leg: Leg, error: StorageError): void {
    const { volume } = this
    this.error = error
    if (readFailed(volume, leg, error)) (this.failed ??= []).push(leg)
    else this.failed ??= []
    if (!this.over()) this.next()
  }

  private pickAnother(): Leg | null {
    const { failed, volume } = this
    return volume.readable.find((leg) => !failed!.includes(leg)) ?? null
  }

  /** Parks the request: no leg may be read yet, but one that is in sync soon may. */
  private wait(): void {
    const { volume } = this
    const request = this.request!
    this.request = null
    this.end()
    volume.park(request, this.deadline)
  }

  private noLeg(): StorageError {
    const reason = this.error === null ? '' : `: ${this.error.message}`
    const code: Code = this.error?.code === 'FENCED' ? 'FENCED' : 'IO'
    return new StorageError(code, `no leg in sync could answer${reason}`, this.volume.path)
  }

  protected end(): void {
    this.volume.jobs.endRead(this)
  }
}

/** The leg with the fewest reads under way, then the one whose last read ended nearest. */
function pick(volume: Volume, offset: number): Leg | null {
  const { readers } = volume
  let best: Leg | null = null
  let bestDistance = 0
  for (const leg of readers) {
    const distance = Math.abs(leg.lastOffset - offset)
    if (
      best === null ||
      leg.reads < best.reads ||
      (leg.reads === best.reads && distance < bestDistance)
    ) {
      best = leg
      bestDistance = distance
    }
  }
  return best
}

function copyExtents(from: Request, to: Request): void {
  const { lengths, flags } = from.extents
  for (let at = 0; at < lengths.length; at++) to.extents.add(lengths[at]!, flags[at]!)
}

/** Repairs under way at most; without a bound a failing disk would keep us busy for ever. */
const repairsMax = 8

function repairLater(volume: Volume, leg: Leg, { operation, offset, length }: Request): void {
  if (operation === Operation.read) repairSoon(volume, leg, offset, length)
}

/** Starts to rewrite a range that the leg could not read, unless too many repairs are under way. */
export function repairSoon(volume: Volume, leg: Leg, offset: number, length: number): void {
  if (volume.membership.repairs.size < repairsMax) void repair(volume, leg, offset, length)
}

/**
 * Reads from another leg what this one could not read, and writes it back. A leg that cannot take
 * it leaves. Never rejects.
 */
async function repair(volume: Volume, leg: Leg, offset: number, length: number): Promise<void> {
  const { membership } = volume
  const range = new LockedRange(offset, offset + length)
  membership.repairs.add(range)
  await range.acquire(volume)
  const source = volume.readable.find((one) => one !== leg)
  if (!membership.over() && source !== undefined && volume.inSync.includes(leg)) {
    let failing = source
    try {
      const child = await source.carryOut(Operation.read, offset, length, null)
      const certain = await vouch(volume, [source])
      failing = leg
      if (certain && volume.inSync.includes(leg)) {
        await rewrite(leg, offset, child)
        volume.log.warn(
          { leg: leg.name, offset, length },
          `${volume.path}/${leg.name}: ${length} bytes at ${offset} were unreadable, and rewritten`,
        )
      } else child.release()
    } catch (error) {
      const failure = systemError(error, 'rewriting a bad range')
      if (!membership.over())
        if (failing === leg) failed(volume, leg, 'write', failure)
        else readFailed(volume, source, failure)
    }
  }
  membership.repairs.delete(range)
  range.release(volume)
}

/**
 * Writes what was read from one leg to another without copying the bytes. Takes over `read`.
 * Rejects when the write fails.
 */
export async function rewrite(leg: Leg, offset: number, read: Request): Promise<void> {
  const write = Request.take(Operation.write, offset, read.length, 0, leg)
  write.adopt(read)
  read.release()
  await leg.carryOutWrite(write)
}
