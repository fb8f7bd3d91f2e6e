import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock, type Clock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device, type Driver } from '../../src/device/device.ts'
import type { Entrance, EntranceTls, Export, Exports } from '../../src/export/export.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import type { Address } from '../../src/net/address.ts'
import { Admission } from '../../src/export/admission.ts'
import { Claims } from '../../src/export/claims.ts'
import type { Limits } from '../../src/export/limits.ts'
import type { Accept, Listener } from '../../src/net/network.ts'
import { SocketNetwork, type Receive } from '../../src/net/sockets.ts'
import { NbdService } from '../../src/nbd/server.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { defaultLimits } from '../support/limits.ts'

export class ExportList implements Exports, Entrance {
  private readonly exports = new Map<string, Export>()

  add(name: string, device: Device, readOnly = false, description = ''): void {
    this.exports.set(name, { name, device, readOnly, mayClaim: true, description })
  }

  find(name: string): Export | undefined {
    return this.exports.get(name)
  }

  list(): readonly Export[] {
    return [...this.exports.values()]
  }

  /** All clients see the same. */
  seenBy(): Exports {
    return this
  }

  tls?: EntranceTls
}

/** An NBD server in this process, on real sockets: a unix socket and a port of 127.0.0.1. */
export class Rig {
  readonly exports = new ExportList()
  readonly slab = new Slab()
  readonly folder = mkdtempSync(join(tmpdir(), 'dst-nbd-'))
  readonly admission: Admission
  readonly service: NbdService
  private readonly claims = new Claims(new MemoryStore())
  readonly network: SocketNetwork
  private readonly listeners: Listener[] = []
  private readonly devices: Device[] = []

  constructor(
    limits: Partial<Limits> = {},
    receive: Receive = 'landing',
    clock: Clock = systemClock,
  ) {
    const all = { ...defaultLimits, ...limits }
    this.admission = new Admission(all.bytesInFlight)
    this.network = new SocketNetwork(receive)
    this.service = new NbdService({
      admission: this.admission,
      slab: this.slab,
      clock,
      random: systemRandom,
      log: silentLog,
      limits: all,
      claims: this.claims,
    })
  }

  async listen(): Promise<void> {
    const unix: Address = { kind: 'unix', path: join(this.folder, 'nbd.sock') }
    // Until they are known, clients that cannot claim may only read.
    await new Promise((resolve) => this.claims.ready(resolve))
    const accept: Accept = (connection) => this.service.accept(connection, this.exports)
    this.listeners.push(await this.network.listen(unix, accept))
    const tcp: Address = { kind: 'tcp', host: '127.0.0.1', port: 0 }
    this.listeners.push(await this.network.listen(tcp, accept))
  }

  get unix(): Address {
    return this.listeners[0]!.address
  }

  get tcp(): Address {
    return this.listeners[1]!.address
  }

  /** Opens a device over the driver and exports it. */
  async add(name: string, driver: Driver, readOnly = false, description = ''): Promise<Device> {
    const device = new Device(name, driver, systemClock)
    this.devices.push(device)
    await device.open()
    this.exports.add(name, device, readOnly, description)
    return device
  }

  addMemory(name: string, size: number, readOnly = false): Promise<Device> {
    return this.add(name, new MemoryDriver(size, new SeededRandom(size)), readOnly)
  }

  uri(name: string, over: 'unix' | 'tcp' = 'unix'): string {
    const { unix, tcp } = this
    if (over === 'unix' && unix.kind === 'unix') return `nbd+unix:///${name}?socket=${unix.path}`
    return `nbd://127.0.0.1:${tcp.kind === 'tcp' ? tcp.port : 0}/${name}`
  }

  async close(): Promise<void> {
    for (const listener of this.listeners) await listener.close()
    this.service.destroy()
    await this.service.drain()
    for (const device of this.devices) await device.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
