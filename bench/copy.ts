import type { StorageError } from '../src/base/errors.ts'
import type { Device } from '../src/device/device.ts'
import { Operation, Request, type Completer } from '../src/device/request.ts'

/** What a plain copy of one device to another costs at least: what a resync is held against. */
export class PlainCopy implements Completer {
  private readonly from: Device
  private readonly to: Device
  private readonly bytes: number
  private readonly chunk: number
  private next = 0
  private underWay = 0
  private window = 0
  private pumping = false
  private failure: StorageError | null = null
  private settle: (() => void) | null = null

  /** The first `bytes` of `from`, in pieces of `chunk`. */
  constructor(from: Device, to: Device, bytes: number, chunk: number) {
    this.from = from
    this.to = to
    this.bytes = bytes
    this.chunk = chunk
  }

  /** Copies in order, with so many pieces under way at once. Rejects with the first error. */
  run(window: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.settle = () => {
        if (this.failure === null) resolve()
        else reject(this.failure)
      }
      this.window = window
      this.pump()
    })
  }

  completed(request: Request): void {
    this.underWay--
    const { operation, offset, length } = request
    this.failure ??= request.error
    if (operation === Operation.read && this.failure === null) {
      const write = Request.take(Operation.write, offset, length, 0, this)
      write.adopt(request)
      request.release()
      this.underWay++
      this.to.submit(write)
    } else {
      request.release()
      this.pump()
    }
  }

  /** Reads what there is room for; a device that completes at once leads back here. */
  private pump(): void {
    if (this.pumping) return
    this.pumping = true
    while (this.underWay < this.window && this.next < this.bytes && this.failure === null) {
      const length = Math.min(this.chunk, this.bytes - this.next)
      const read = Request.take(Operation.read, this.next, length, 0, this)
      this.next += length
      this.underWay++
      this.from.submit(read)
    }
    this.pumping = false
    if (this.underWay === 0) this.settle?.()
  }
}
