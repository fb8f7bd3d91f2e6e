import type { Facts } from '../device/device.ts'
import { isChange, Operation, type Request } from '../device/request.ts'

/** True when a request made for a device with one of these facts means the same with the other. */
export function same(one: Facts, other: Facts): boolean {
  return (
    one.identity === other.identity &&
    one.bootId === other.bootId &&
    one.blockSize === other.blockSize
  )
}

/** True for changes and flushes, which are of use only to the boot that they were made for. */
export function mutates(request: Request): boolean {
  return request.operation === Operation.flush || isChange(request.operation)
}
