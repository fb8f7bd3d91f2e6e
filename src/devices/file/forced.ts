import type { Completer, Request } from '../../device/request.ts'
import { flushBehind } from './holes.ts'

/**
 * Finds out what lack of space did to a write to stable storage. The kernel's ENOSPC means one of
 * two things: the write was not taken; or it was, and found no place when it was written back,
 * which may have cost earlier writes as well. A flush through another descriptor tells them apart:
 * the kernel reports a failed writeback once to each descriptor.
 */
export class Forced implements Completer {
  private readonly flush: (request: Request) => void

  constructor(flush: (request: Request) => void) {
    this.flush = flush
  }

  completed(request: Request): void {
    if (request.error?.code === 'NO_SPACE') this.flush(flushBehind(request))
    else request.complete()
  }
}
