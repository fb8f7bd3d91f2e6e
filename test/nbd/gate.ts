import type { Driver, DriverHost, Facts } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import type { Request } from '../../src/device/request.ts'
import { SeededRandom } from '../support/seeded.ts'

/** A memory that is slow as long as a test wants, and online only when a test says so. */
export class GateDriver implements Driver {
  readonly type = 'gate'
  readonly children = []
  readonly waiting: Request[] = []
  shut = false
  private readonly memory: MemoryDriver
  private readonly online: boolean
  private host: DriverHost | null = null
  private facts: Facts | null = null
  private arrived: () => void = () => undefined

  constructor(size: number, online = true) {
    this.memory = new MemoryDriver(size, new SeededRandom(size))
    this.online = online
  }

  async open(host: DriverHost): Promise<void> {
    this.host = host
    if (this.online) await this.goOnline()
    else host.offline('offline', 'not there yet')
  }

  goOnline(): Promise<void> {
    const host = this.host!
    return this.memory.open({
      path: host.path,
      clock: host.clock,
      online: (facts) => host.online((this.facts = facts)),
      offline: (word, reason) => host.offline(word, reason),
    })
  }

  /** Another life of its cache begins, as after a power loss. */
  reboot(bootId: string): void {
    this.host!.online({ ...this.facts!, bootId })
  }

  goOffline(): void {
    this.host!.offline('offline', 'gone')
  }

  close(): Promise<void> {
    return this.memory.close()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  submit(request: Request): void {
    if (!this.shut) this.memory.submit(request)
    else {
      this.waiting.push(request)
      this.arrived()
    }
  }

  /** Resolves when `count` requests wait. */
  async waits(count: number): Promise<void> {
    while (this.waiting.length < count)
      await new Promise<void>((resolve) => (this.arrived = resolve))
  }

  /** Lets everything through that waits, and what comes. */
  letThrough(): void {
    this.shut = false
    for (const request of this.waiting.splice(0)) this.memory.submit(request)
  }
}
