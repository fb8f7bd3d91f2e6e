import { StorageError } from '../base/errors.ts'
import type { Request } from '../device/request.ts'
import type { Leg } from './leg.ts'

/** The part of the mirror that submitted a request to a leg. */
export interface LegCaller {
  /** The request is complete; the caller releases it. */
  legDone(leg: Leg, child: Request): void
  /** The leg left while the request was under way: its answer is neither told nor waited for. */
  legLost(leg: Leg): void
}

/** Waits for one request that the mirror itself submitted. `resolve` takes over the request. */
export class Waiter implements LegCaller {
  private readonly resolve: (child: Request) => void
  private readonly reject: (error: StorageError) => void

  constructor(resolve: (child: Request) => void, reject: (error: StorageError) => void) {
    this.resolve = resolve
    this.reject = reject
  }

  legDone(_leg: Leg, child: Request): void {
    const { error } = child
    if (error === null) this.resolve(child)
    else {
      child.release()
      this.reject(error)
    }
  }

  legLost(leg: Leg): void {
    this.reject(new StorageError('UNAVAILABLE', `${leg.name} left`, leg.device.path))
  }
}
