import type { StorageError } from '../base/errors.ts'
import type { Device } from '../device/device.ts'
import { Operation, Request } from '../device/request.ts'

/** Flushes a device. Resolves to the error of the flush, null if it succeeded. */
export function flush(device: Device): Promise<StorageError | null> {
  return new Promise((resolve) => {
    const owner = {
      completed(request: Request) {
        const { error } = request
        request.release()
        resolve(error)
      },
    }
    device.submit(Request.take(Operation.flush, 0, 0, 0, owner))
  })
}
