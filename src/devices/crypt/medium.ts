import { assert, StorageError } from '../../base/errors.ts'
import { roundDown, roundUp } from '../../base/size.ts'
import type { Device } from '../../device/device.ts'
import { Operation, Request, type Completer } from '../../device/request.ts'

/** Bytes of one request for a header. */
const pieceBytes = 256 * 1024

/** Reads and writes the header of an encrypted device: rarely, hence by promises. */
export class Medium {
  readonly device: Device

  constructor(device: Device) {
    this.device = device
  }

  /** Bytes of the device; it was online before. */
  get size(): number {
    return this.facts.size
  }

  get blockSize(): number {
    return this.facts.blockSize
  }

  /** Resolves to bytes of the caller's own. */
  async read(offset: number, length: number): Promise<Buffer> {
    const [from, to] = this.blocksAround(offset, length)
    const bytes = Buffer.alloc(to - from)
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = bytes.subarray(at, Math.min(at + pieceBytes, bytes.length))
      await submit(this.device, { operation: Operation.read, offset: from + at, piece })
    }
    return bytes.subarray(offset - from, offset - from + length)
  }

  /**
   * Writes bytes, in order. What shares a block with them is read and written as it is. They are on
   * stable storage after the next `flush`.
   */
  async write(offset: number, bytes: Buffer): Promise<void> {
    const [from, to] = this.blocksAround(offset, bytes.length)
    let whole = bytes
    if (to - from > bytes.length) {
      whole = await this.read(from, to - from)
      bytes.copy(whole, offset - from)
    }
    for (let at = 0; at < whole.length; at += pieceBytes) {
      const piece = whole.subarray(at, Math.min(at + pieceBytes, whole.length))
      await submit(this.device, { operation: Operation.write, offset: from + at, piece })
    }
  }

  async flush(): Promise<void> {
    if (this.facts.flush === 'none') return
    const nothing = { offset: 0, piece: Buffer.alloc(0) }
    await submit(this.device, { operation: Operation.flush, ...nothing })
  }

  private get facts() {
    const { facts, path } = this.device
    if (facts === null) throw new StorageError('UNAVAILABLE', 'the device was never reached', path)
    return facts
  }

  /** The first byte of the blocks that have the range, and the one behind them. */
  private blocksAround(offset: number, length: number): readonly [from: number, to: number] {
    const { blockSize } = this.facts
    return [roundDown(offset, blockSize), roundUp(offset + length, blockSize)]
  }
}

/** One request for a header: `piece` is what is written, or where a read lands. */
interface Transfer {
  readonly operation: Operation
  readonly offset: number
  readonly piece: Buffer
}

interface Waiting {
  readonly piece: Buffer
  readonly resolve: () => void
  readonly reject: (error: StorageError) => void
}

const settle: Completer = {
  completed(request) {
    const { piece, resolve, reject } = request.context as Waiting
    const { error } = request
    if (error === null && request.operation === Operation.read) {
      assert(request.payloadBytes === piece.length, 'a read has the bytes that it asked for')
      request.copyTo(piece)
    }
    request.release()
    if (error === null) resolve()
    else reject(error)
  },
}

function submit(device: Device, { operation, offset, piece }: Transfer): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = Request.take(operation, offset, piece.length, 0, settle)
    request.context = { piece, resolve, reject } satisfies Waiting
    if (operation === Operation.write) request.append(piece, null)
    device.submit(request)
  })
}
