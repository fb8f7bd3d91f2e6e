import type { Clock } from '../base/clock.ts'
import type { Counters, Device } from '../device/device.ts'
import { Operation } from '../device/request.ts'

/** The load of a device in the last few seconds. */
export interface Rate {
  readonly operationsPerSecond: number
  readonly bytesReadPerSecond: number
  readonly bytesWrittenPerSecond: number
}

interface Sample {
  /** Milliseconds on the clock's monotonic scale. */
  readonly at: number
  readonly operations: number
  readonly read: number
  readonly written: number
}

/** Milliseconds over which a rate is measured at least: over less it is chance. */
const spanMs = 4000

/** Measures the load of devices by looking at their counters now and then. */
export class Rates {
  private readonly clock: Clock
  /** The samples of each device from the last two looks that were `spanMs` apart. */
  private readonly samples = new WeakMap<Device, readonly [Sample, Sample]>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Looks at the counters of the devices. */
  look(devices: readonly Device[]): void {
    const at = this.clock.now()
    for (const device of devices) {
      const now = sampleOf(device.counters, at)
      const [before, last] = this.samples.get(device) ?? [now, now]
      this.samples.set(device, at - last.at >= spanMs ? [last, now] : [before, last])
    }
  }

  /** The load since the last look but one; null while that is not known. */
  of(device: Device): Rate | null {
    const [before] = this.samples.get(device) ?? []
    if (before === undefined) return null
    const now = sampleOf(device.counters, this.clock.now())
    const seconds = (now.at - before.at) / 1000
    if (seconds < 1) return null
    const perSecond = (amount: number): number => Math.round(amount / seconds)
    return {
      operationsPerSecond: perSecond(now.operations - before.operations),
      bytesReadPerSecond: perSecond(now.read - before.read),
      bytesWrittenPerSecond: perSecond(now.written - before.written),
    }
  }
}

function sampleOf({ operations, bytes }: Counters, at: number): Sample {
  return {
    at,
    operations: operations.reduce((sum, count) => sum + count, 0),
    read: bytes[Operation.read]!,
    written: bytes[Operation.write]!,
  }
}
