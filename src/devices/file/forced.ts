import { Operation, Request, type Completer } from '../../device/request.ts'
import { afterFlush } from './holes.ts'

/**
 * A write to stable storage for which there is no space is one of two things, and the kernel's
 * ENOSPC is the same for both: nothing of it was taken, or what was taken found no place when it
 * was written back, which may have cost what others had written as well. A flush through another
 * descriptor tells: the kernel keeps a failed writeback for each of them until it has told it.
 */
export class Forced implements Completer {
  private readonly flush: (request: Request) => void

  constructor(flush: (request: Request) => void) {
    this.flush = flush
  }

  completed(request: Request): void {
    if (request.error?.code !== 'NO_SPACE') {
      request.complete()
      return
    }
    const flush = Request.take(Operation.flush, 0, 0, 0, afterFlush)
    flush.context = request
    this.flush(flush)
  }
}
