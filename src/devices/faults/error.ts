import { existsSync } from 'node:fs'
import { StorageError, type Code } from '../../base/errors.ts'
import type { Random } from '../../base/random.ts'
import type { Device } from '../../device/device.ts'
import { Operation, operationNames, type Request } from '../../device/request.ts'
import { Layer, selects, type OperationName } from './layer.ts'

/** The requests that an error layer fails: those that meet all conditions. */
export interface ErrorOptions {
  /** Which operations fail; all if absent. */
  readonly operations?: readonly OperationName[]
  /** Only requests that touch these bytes fail; a flush touches none. */
  readonly range?: { readonly offset: number; readonly length: number }
  /** The share of requests that fail, 0 to 1; all if absent. */
  readonly probability?: number
  /** Requests fail only while a file of this name is there. */
  readonly whileFileExists?: string
  /** The code that requests fail with; IO if absent. */
  readonly code?: Code
}

/** Fails some requests and passes on the others. */
export class ErrorDriver extends Layer {
  readonly type = 'error'
  private readonly options: ErrorOptions
  private readonly random: Random
  private readonly selected: (operation: Operation) => boolean
  private failed = 0

  constructor(below: Device, options: ErrorOptions, random: Random) {
    super(below)
    this.options = options
    this.random = random
    this.selected = selects(options.operations)
  }

  submit(request: Request): void {
    if (!this.hits(request)) {
      this.below.submit(request)
      return
    }
    this.failed++
    const message = `${operationNames[request.operation]} fails on purpose`
    request.fail(new StorageError(this.options.code ?? 'IO', message, this.path))
  }

  describe(): Record<string, unknown> {
    return { ...this.options, failed: this.failed }
  }

  private hits(request: Request): boolean {
    const { range, probability, whileFileExists } = this.options
    if (!this.selected(request.operation)) return false
    if (range !== undefined) {
      if (request.operation === Operation.flush) return false
      if (request.offset >= range.offset + range.length) return false
      if (request.offset + request.length <= range.offset) return false
    }
    if (probability !== undefined && this.random.fraction() >= probability) return false
    return whileFileExists === undefined || existsSync(whileFileExists)
  }
}
