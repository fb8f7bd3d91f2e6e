import type { Clock } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'
import type { Device } from '../../device/device.ts'
import type { Operation, Request } from '../../device/request.ts'
import { Layer, selects, type OperationName } from './layer.ts'

/** The requests that a delay layer holds, and for how long. */
export interface DelayOptions {
  /** Which operations are delayed; all if absent. */
  readonly operations?: readonly OperationName[]
  /** Milliseconds; each delay lies evenly between `min` and `max`. */
  readonly min: number
  readonly max: number
}

/** Holds each request for a while before it passes it on; requests may overtake one another. */
export class DelayDriver extends Layer {
  readonly type = 'delay'
  private readonly options: DelayOptions
  private readonly clock: Clock
  private readonly random: Random
  private readonly selected: (operation: Operation) => boolean

  constructor(below: Device, options: DelayOptions, clock: Clock, random: Random) {
    super(below)
    this.options = options
    this.clock = clock
    this.random = random
    this.selected = selects(options.operations)
  }

  submit(request: Request): void {
    if (!this.selected(request.operation)) {
      this.below.submit(request)
      return
    }
    const { min, max } = this.options
    const ms = min + this.random.fraction() * (max - min)
    this.clock.timer(ms, () => this.below.submit(request))
  }

  describe(): Record<string, unknown> {
    return { ...this.options }
  }
}
