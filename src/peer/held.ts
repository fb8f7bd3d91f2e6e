import type { StorageError } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'
import { MiB } from '../base/size.ts'
import { Operation, type Request } from '../device/request.ts'

/** The most that is held for a peer that is away: requests, and bytes of their payload. */
export const heldRequestsMax = 16_384
const heldBytesMax = 256 * MiB

/** True when another request may be held beside `requests`; `bytes` counts its payload too. */
export function mayHold(requests: number, bytes: number): boolean {
  return requests < heldRequestsMax && bytes <= heldBytesMax
}

/** Bytes of payload that the request sends or asks for. */
export function payloadOf(request: Request): number {
  return request.operation <= Operation.write ? request.length : 0
}

/** Requests that wait for a connection, first come, first served. */
export class HeldRequests {
  private readonly requests = new Ring<Request>()
  private bytes = 0

  get length(): number {
    return this.requests.length
  }

  /** True when the request may be held as well. */
  hasRoom(request: Request): boolean {
    return mayHold(this.requests.length, this.bytes + lentBy(request))
  }

  push(request: Request): void {
    this.bytes += lentBy(request)
    this.requests.push(request)
  }

  peek(): Request | undefined {
    return this.requests.peek()
  }

  shift(): Request | undefined {
    const request = this.requests.shift()
    if (request !== undefined) this.bytes -= lentBy(request)
    return request
  }

  /** Fails what is held now; what their owners submit meanwhile is not touched. */
  failAll(error: StorageError): void {
    for (let left = this.requests.length; left > 0; left--) this.shift()!.fail(error)
  }
}

/** Bytes that the request keeps while it waits: a read has none yet. */
function lentBy(request: Request): number {
  return request.operation === Operation.write ? request.length : 0
}
