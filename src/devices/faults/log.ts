import type { Clock } from '../../base/clock.ts'
import type { Log } from '../../base/log.ts'
import type { Device } from '../../device/device.ts'
import { operationNames } from '../../device/request.ts'
import type { Completer, Operation, Request } from '../../device/request.ts'
import { Layer, selects, type OperationName } from './layer.ts'

/** The requests that a log layer logs, and at which level. */
export interface LogOptions {
  /** Which operations are logged; all if absent. */
  readonly operations?: readonly OperationName[]
  /** The level for requests that succeed; failed ones are warnings. */
  readonly level: 'debug' | 'info'
}

/** Logs every request when it completes. */
export class LogDriver extends Layer implements Completer {
  readonly type = 'log'
  private readonly options: LogOptions
  private readonly log: Log
  private readonly clock: Clock
  private readonly selected: (operation: Operation) => boolean
  private readonly began = new Map<Request, number>()

  constructor(below: Device, options: LogOptions, log: Log, clock: Clock) {
    super(below)
    this.options = options
    this.log = log
    this.clock = clock
    this.selected = selects(options.operations)
  }

  submit(request: Request): void {
    if (this.selected(request.operation)) {
      this.began.set(request, this.clock.now())
      request.push(this)
    }
    this.below.submit(request)
  }

  completed(request: Request): void {
    const { offset, length, flags, error } = request
    const ms = this.clock.now() - this.began.get(request)!
    this.began.delete(request)
    const operation = operationNames[request.operation]
    const fields = { device: this.path, operation, offset, length, flags, ms }
    if (error === null) this.log[this.options.level](fields, `${this.path}: ${operation} completed`)
    else
      this.log.warn(
        { ...fields, code: error.code, error: error.message },
        `${this.path}: ${operation} failed`,
      )
    request.complete()
  }

  describe(): Record<string, unknown> {
    return { ...this.options }
  }
}
