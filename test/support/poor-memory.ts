import type { DriverHost, Facts } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation, type Request } from '../../src/device/request.ts'

/** A memory that cannot zero: zeroes are written, and every write is complete at once. */
export class PoorMemory extends MemoryDriver {
  /** Bytes written so far. */
  written = 0
  private outside: DriverHost | null = null
  private facts: Facts | null = null

  override open(host: DriverHost): Promise<void> {
    this.outside = host
    return super.open({
      path: host.path,
      clock: host.clock,
      online: (facts) => {
        this.facts = { ...facts, trim: 'none', writeZeroes: 'emulated', fastZero: false }
        host.online(this.facts)
      },
      offline: (word, reason) => host.offline(word, reason),
    })
  }

  override submit(request: Request): void {
    if (request.operation === Operation.write) this.written += request.length
    super.submit(request)
  }

  /** Says that what was not flushed is lost. */
  reboot(bootId: string): void {
    this.outside!.online({ ...this.facts!, bootId })
  }
}
