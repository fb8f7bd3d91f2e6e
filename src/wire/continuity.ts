import type { Facts } from '../device/device.ts'
import { isChange, Operation, type Request } from '../device/request.ts'

/** Whether requests made for one mean the same for the other. */
export function same(one: Facts, other: Facts): boolean {
  return (
    one.identity === other.identity &&
    one.bootId === other.bootId &&
    one.blockSize === other.blockSize
  )
}

/** Whether the request is of use only to the boot it was made for. */
export function mutates(request: Request): boolean {
  return request.operation === Operation.flush || isChange(request.operation)
}
