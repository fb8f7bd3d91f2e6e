import type { StorageError } from '../../src/base/errors.ts'
import type { Driver, DriverHost, Facts } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { SeededRandom } from './seeded.ts'

/** A memory whose cache a test loses, with flushes and writes that wait for the test, or fail. */
export class LossyDriver implements Driver {
  readonly type = 'lossy'
  readonly children = []
  flushesUnseen = false
  readonly flushes: Request[] = []
  holdFlushes = false
  readonly writes: Request[] = []
  holdWrites = false
  /** What changes fail with, and flushes if `failsFlushes`. */
  failing: StorageError | null = null
  failsFlushes = false
  private readonly memory = new MemoryDriver(65_536, new SeededRandom(1))
  private readonly limits: Partial<Facts>
  private host!: DriverHost
  private facts!: Facts

  constructor(limits: Partial<Facts> = {}) {
    this.limits = { fua: 'emulated', ...limits }
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    return this.memory.open({
      path: host.path,
      clock: host.clock,
      online: (facts) => host.online((this.facts = { ...facts, ...this.limits })),
      offline: (word, reason) => host.offline(word, reason),
    })
  }

  loseCache(life: number): void {
    this.say({ bootId: `${life}`.repeat(32) })
  }

  say(changes: Partial<Facts>): void {
    this.facts = { ...this.facts, ...changes }
    this.host.online(this.facts)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  submit(request: Request): void {
    if (this.holdFlushes && request.operation === Operation.flush) this.flushes.push(request)
    else if (this.holdWrites && request.operation === Operation.write) this.writes.push(request)
    else if (this.failing !== null && this.mayFail(request.operation)) request.fail(this.failing)
    else this.memory.submit(request)
  }

  private mayFail(operation: Operation): boolean {
    return operation === Operation.flush ? this.failsFlushes : operation === Operation.write
  }
}
