import type { Random } from '../../src/base/random.ts'
import { MiB, roundDown } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { flush, write } from './io.ts'

/** Writes a whole device once and flushes it. Rejects with the first error. */
export async function fill(device: Device, random: Random): Promise<void> {
  const { size, payloadMax } = device.facts!
  const bytes = random.bytes(Math.min(MiB, roundDown(payloadMax, 4096), size))
  for (let offset = 0; offset < size; offset += bytes.length)
    await write(device, offset, bytes.subarray(0, size - offset))
  await flush(device)
}
