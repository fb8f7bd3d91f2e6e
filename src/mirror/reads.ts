import { StorageError, systemError, type Code } from '../base/errors.ts'
import { Operation, Request } from '../device/request.ts'
import { failed, readFailed } from './departure.ts'
import type { LegCaller } from './leg-caller.ts'
import type { Leg } from './leg.ts'
import { LockedRange } from './locked.ts'
import { isOver, noRun } from './rules/run.ts'
import type { Volume } from './volume.ts'
import type { Job } from './writes.ts'

/** A read, or a question about allocation, answered by one leg in sync, or the next. */
export class ReadJob implements Job, LegCaller {
  request: Request | null = null
  place = 0
  order = 0
  deadline: number | undefined = undefined
  private readonly volume: Volume
  private run = noRun<Leg>()
  /** Legs that could not answer; null as long as all went well. */
  private failed: Leg[] | null = null
  private error: StorageError | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Whether the run in which it began has ended. */
  private over(): boolean {
    return isOver(this.run)
  }

  start(request: Request): void {
    this.request = request
    this.run = this.volume.run
    this.failed = null
    this.error = null
    this.next()
  }

  private next(): void {
    const { volume } = this
    const request = this.request!
    const leg = this.failed === null ? pick(volume, request.offset) : this.pickAnother()
    if (leg === null) {
      if (volume.readable.length === 0) this.wait()
      else this.finish(this.noLeg())
      return
    }
    leg.reads++
    leg.lastOffset = request.offset + request.length
    const { operation, offset, length, flags } = request
    leg.submit(Request.take(operation, offset, length, flags, leg), this)
  }

  legDone(leg: Leg, child: Request): void {
    leg.reads--
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
    this.finish(null)
  }

  legLost(leg: Leg): void {
    leg.reads--
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

  /** The leg that is in sync now is about to be read from. */
  private wait(): void {
    const { volume } = this
    const request = this.request!
    this.request = null
    volume.endJob(this)
    volume.readJobs.push(this)
    volume.park(request, this.deadline)
  }

  private noLeg(): StorageError {
    const reason = this.error === null ? '' : `: ${this.error.message}`
    const code: Code = this.error?.code === 'FENCED' ? 'FENCED' : 'IO'
    return new StorageError(code, `no leg in sync could answer${reason}`, this.volume.path)
  }

  private finish(error: StorageError | null): void {
    const { volume } = this
    const request = this.request!
    this.request = null
    volume.endJob(this)
    volume.readJobs.push(this)
    if (error === null) request.complete()
    else request.fail(error)
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

/** Repairs under way at once: a disk that fails everywhere is no work without end. */
const repairsMax = 8

function repairLater(volume: Volume, leg: Leg, { operation, offset, length }: Request): void {
  if (operation === Operation.read) repairSoon(volume, leg, offset, length)
}

/** Has the leg, which could not read the range, written to again from one that can. */
export function repairSoon(volume: Volume, leg: Leg, offset: number, length: number): void {
  if (volume.membership.repairs < repairsMax) void repair(volume, leg, offset, length)
}

/** Writes to a leg what it could not read, from one that can; a leg that cannot take it leaves. */
async function repair(volume: Volume, leg: Leg, offset: number, length: number): Promise<void> {
  const { membership } = volume
  membership.repairs++
  const range = new LockedRange(offset, offset + length)
  await range.acquire(volume)
  const source = volume.readable.find((one) => one !== leg)
  if (!membership.over() && source !== undefined && volume.inSync.includes(leg)) {
    let failing = source
    try {
      const child = await source.carryOut(Operation.read, offset, length, null)
      failing = leg
      await rewrite(leg, offset, child)
      volume.log.warn(
        { leg: leg.name, offset, length },
        `${volume.path}/${leg.name}: ${length} bytes at ${offset} were unreadable, and rewritten`,
      )
    } catch (error) {
      const failure = systemError(error, 'rewriting a bad range')
      if (!membership.over())
        if (failing === leg) failed(volume, leg, 'write', failure)
        else readFailed(volume, source, failure)
    }
  }
  membership.repairs--
  range.release(volume)
}

/** Writes what was read from one leg to another, without copying it. */
export function rewrite(leg: Leg, offset: number, read: Request): Promise<void> {
  return new Promise((resolve, reject) => {
    const write = Request.take(Operation.write, offset, read.length, 0, leg)
    write.adopt(read)
    read.release()
    leg.submit(write, {
      legDone: (_leg, child) => {
        const { error } = child
        child.release()
        if (error === null) resolve()
        else reject(error)
      },
      legLost: () => {
        reject(new StorageError('UNAVAILABLE', `${leg.name} left`, leg.device.path))
      },
    })
  })
}
