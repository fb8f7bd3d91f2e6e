import type { StorageError } from '../../base/errors.ts'
import type { Request } from '../../device/request.ts'
import type { Leg } from '../leg.ts'
import { isOver, noRun } from '../rules/run.ts'
import type { Volume } from '../volume.ts'

const idle = noRun<Leg>()

/** A request on its way through the mirror, in the run that it began in. */
export abstract class Job {
  request: Request | null = null
  protected readonly volume: Volume
  protected run = idle
  protected error: StorageError | null = null
  /** Rises with every job: the order they came in. */
  order = 0
  /**
   * When the request fails, on the clock's scale, if it has waited before; waiting again does not
   * extend it.
   */
  deadline: number | undefined = undefined
  private place = 0

  constructor(volume: Volume) {
    this.volume = volume
  }

  /** Adds the job to those under way. */
  join(underWay: Job[], order: number, deadline: number | undefined): void {
    this.place = underWay.length
    this.order = order
    this.deadline = deadline
    underWay.push(this)
  }

  /** Removes the job from those under way, which are in no order. */
  leave(underWay: Job[]): void {
    const last = underWay.pop()!
    if (last === this) return
    underWay[this.place] = last
    last.place = this.place
  }

  start(request: Request): void {
    this.request = request
    this.run = this.volume.run
    this.error = null
    this.begin(request)
  }

  protected abstract begin(request: Request): void

  /** Removes the job from those under way; the object may be used again. */
  protected abstract end(): void

  /** Whether the run in which it began has ended. */
  protected over(): boolean {
    return isOver(this.run)
  }

  /** Acknowledges the request: the record it waited for is durable, and enough legs are in sync. */
  durable(): void {
    if (!this.over()) this.finish()
  }

  /** Fails the request. */
  fail(error: StorageError): void {
    this.error = error
    this.finish()
  }

  /** Acknowledges the request, or fails it. */
  protected finish(): void {
    const { error } = this
    const request = this.request!
    this.end()
    this.request = null
    if (error === null) request.complete()
    else request.fail(error)
  }
}
