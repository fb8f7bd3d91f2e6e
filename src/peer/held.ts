import type { StorageError } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'
import { MiB } from '../base/size.ts'
import { Operation, type Request } from '../device/request.ts'

/** What may be held for a remote that is away: requests, and bytes of their payload. */
export const heldRequestsMax = 16_384
export const heldBytesMax = 256 * MiB

/** Requests that wait for a connection, first come, first served. */
export class HeldRequests {
  private readonly requests = new Ring<Request>()
  private bytes = 0

  get length(): number {
    return this.requests.length
  }

  /** Whether the request may be held as well. */
  hasRoom(request: Request): boolean {
    return this.requests.length < heldRequestsMax && this.bytes + payloadOf(request) <= heldBytesMax
  }

  push(request: Request): void {
    this.bytes += payloadOf(request)
    this.requests.push(request)
  }

  peek(): Request | undefined {
    return this.requests.peek()
  }

  shift(): Request | undefined {
    const request = this.requests.shift()
    if (request !== undefined) this.bytes -= payloadOf(request)
    return request
  }

  /** Fails what is held now; what their owners submit meanwhile is not touched. */
  failAll(error: StorageError): void {
    for (let left = this.requests.length; left > 0; left--) this.shift()!.fail(error)
  }
}

function payloadOf(request: Request): number {
  return request.operation === Operation.write ? request.length : 0
}
