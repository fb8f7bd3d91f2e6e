import type { DriverHost, Facts } from '../../src/device/device.ts'
import { extentRunsMax } from '../../src/device/extents.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import type { SeededRandom } from './seeded.ts'

/** The unit in which a `GrainedDriver` tells of its allocation: smaller than a page of memory. */
export const grainBytes = 512

/** Memory that says of each grain of 512 bytes what it is told to say, whatever is there. */
export class GrainedDriver extends MemoryDriver {
  /** The most runs in one answer. */
  runsMax = extentRunsMax
  private readonly flags: readonly number[]
  private readonly limits: Partial<Facts>

  /** `flags` are those of each grain; for a larger device they begin anew. */
  constructor(
    size: number,
    flags: readonly number[],
    random: SeededRandom,
    limits: Partial<Facts> = {},
  ) {
    super(size, random)
    this.flags = flags
    this.limits = limits
  }

  override open(host: DriverHost): Promise<void> {
    return super.open({
      path: host.path,
      clock: host.clock,
      online: (facts) => {
        host.online({ ...facts, ...this.limits })
      },
      offline: () => undefined,
    })
  }

  override submit(request: Request): void {
    if (request.operation !== Operation.status) {
      super.submit(request)
      return
    }
    const { extents, offset, length } = request
    for (let at = offset; at < offset + length;) {
      const grain = Math.floor(at / grainBytes)
      const next = Math.min(offset + length, (grain + 1) * grainBytes)
      const full = extents.lengths.length === this.runsMax
      const flags = this.flagsOf(grain)
      if ((full && extents.flags.at(-1) !== flags) || !extents.add(next - at, flags)) break
      at = next
    }
    request.complete()
  }

  flagsOf(grain: number): number {
    return this.flags[grain % this.flags.length]!
  }

  /** The flags that all grains of a range share. */
  sharedFlags(offset: number, length: number): number {
    let shared = ~0
    for (let at = offset; at < offset + length; at += grainBytes)
      shared &= this.flagsOf(Math.floor(at / grainBytes))
    return shared
  }
}
