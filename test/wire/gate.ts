import type { Driver, DriverHost, Facts } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { SeededRandom } from '../support/seeded.ts'

/**
 * Memory whose writes wait while the gate is shut, as those of an exporter that is slow to carry
 * out what it was given. It can change its facts, as after a restart.
 */
export class GateDriver implements Driver {
  readonly type = 'gate'
  readonly children = []
  /** Offsets of the writes that were carried out, in order. */
  readonly written: number[] = []
  /** What was given to the device, carried out or not. */
  arrived = 0
  epoch = 0
  private readonly memory: MemoryDriver
  private readonly waiting: Request[] = []
  private shut = false
  private facts: Facts | null = null
  private host: DriverHost | null = null
  private onArrival: (() => void) | null = null

  constructor(size: number, seed = 1) {
    this.memory = new MemoryDriver(size, new SeededRandom(seed))
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    const capture: DriverHost = {
      path: host.path,
      clock: host.clock,
      online: (facts) => {
        this.facts = facts
        host.online(facts)
      },
      offline: (word, reason) => host.offline(word, reason),
    }
    return this.memory.open(capture)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  stamp(): Promise<string> {
    return Promise.resolve(`after ${this.written.length} writes`)
  }

  claim(epoch: number): Promise<void> {
    this.epoch = epoch
    return Promise.resolve()
  }

  submit(request: Request): void {
    if (request.operation === Operation.write) {
      this.arrived++
      this.onArrival?.()
      if (this.shut) {
        this.waiting.push(request)
        return
      }
      this.written.push(request.offset)
    }
    this.memory.submit(request)
  }

  /** Writes wait from now on. */
  shutGate(): void {
    this.shut = true
  }

  /** Those that wait are carried out. */
  openGate(): void {
    this.shut = false
    for (const request of this.waiting.splice(0)) {
      this.written.push(request.offset)
      this.memory.submit(request)
    }
  }

  /** Resolves when `count` writes have come. */
  arrivals(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.onArrival = () => {
        if (this.arrived >= count) resolve()
      }
      this.onArrival()
    })
  }

  become(changes: Partial<Facts>): void {
    this.facts = { ...this.facts!, ...changes }
    this.host!.online(this.facts)
  }

  goOffline(): void {
    this.host!.offline('offline', 'unplugged')
  }
}
