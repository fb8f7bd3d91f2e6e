import type { Clock } from '../base/clock.ts'
import type { Counters, Device } from '../device/device.ts'
import { Operation } from '../device/request.ts'

/** What a device did lately, in a second. */
export interface Rate {
  readonly operationsPerSecond: number
  readonly bytesReadPerSecond: number
  readonly bytesWrittenPerSecond: number
}

interface Sample {
  /** Milliseconds. */
  readonly at: number
  readonly operations: number
  readonly read: number
  readonly written: number
}

/** Milliseconds over which a rate is taken at least: less is chance. */
const spanMs = 4000

/** How busy devices are, from their counters, which are looked at now and then. */
export class Rates {
  private readonly clock: Clock
  /** Of each device the samples of the last two looks that were far enough from each other. */
  private readonly samples = new WeakMap<Device, readonly [Sample, Sample]>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  look(devices: readonly Device[]): void {
    const at = this.clock.now()
    for (const device of devices) {
      const now = sampleOf(device.counters, at)
      const [before, last] = this.samples.get(device) ?? [now, now]
      this.samples.set(device, at - last.at >= spanMs ? [last, now] : [before, last])
    }
  }

  /** Since the last look but one; null where that is not known yet. */
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
