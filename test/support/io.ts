import type { StorageError } from '../../src/base/errors.ts'
import type { Lease } from '../../src/base/slab.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation, Request, type Completer } from '../../src/device/request.ts'

/** What became of a request, copied out of it: the request itself is back in the pool. */
export interface Outcome {
  readonly error: StorageError | null
  /** The bytes of a read. */
  readonly data: Buffer
  /** The runs of a status. */
  readonly lengths: readonly number[]
  readonly flags: readonly number[]
}

const owner: Completer = {
  completed(request) {
    const resolve = request.context as (outcome: Outcome) => void
    const outcome: Outcome = {
      error: request.error,
      data: Buffer.concat(request.segments),
      lengths: [...request.extents.lengths],
      flags: [...request.extents.flags],
    }
    request.release()
    resolve(outcome)
  },
}

/** Submits one request and waits for it; a failure is in the outcome. */
export function submit(
  device: Device,
  operation: Operation,
  offset: number,
  length: number,
  flags = 0,
  segments: readonly Buffer[] = [],
  lease: Lease | null = null,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const request = Request.take(operation, offset, length, flags, owner)
    request.context = resolve
    for (const segment of segments) request.append(segment, null)
    if (lease !== null) request.leases.push(lease)
    device.submit(request)
  })
}

async function succeed(outcome: Promise<Outcome>): Promise<Outcome> {
  const settled = await outcome
  if (settled.error !== null) throw settled.error
  return settled
}

/** The bytes of the range; rejects with the request's error. */
export async function read(device: Device, offset: number, length: number): Promise<Buffer> {
  return (await succeed(submit(device, Operation.read, offset, length))).data
}

/** Writes the bytes; rejects with the request's error. */
export async function write(device: Device, offset: number, bytes: Buffer, flags = 0) {
  await succeed(submit(device, Operation.write, offset, bytes.length, flags, [bytes]))
}

export async function flush(device: Device): Promise<void> {
  await succeed(submit(device, Operation.flush, 0, 0))
}
