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
import type { Limits } from '../../src/export/limits.ts'
import type { Accept, Listener, Network } from '../../src/net/network.ts'
import { SocketNetwork, type Receive } from '../../src/net/sockets.ts'
import type { ClientContext } from '../../src/wire/dialer.ts'
import { defaultRemoteOptions, type RemoteOptions } from '../../src/wire/remote-options.ts'
import { RemoteDriver } from '../../src/wire/remote.ts'
import { Claims } from '../../src/export/claims.ts'
import { DstService } from '../../src/wire/server.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { defaultLimits } from '../support/limits.ts'

export class ExportTable implements Exports, Entrance {
  private readonly exports = new Map<string, Export>()

  set(name: string, device: Device, readOnly = false): void {
    const description = `about ${name}`
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

export interface TargetOptions {
  readonly limits?: Partial<Limits>
  readonly receive?: Receive
  /** Instead of sockets that receive as told. */
  readonly network?: Network
  /** Of the service; its sockets always run on the system's. */
  readonly clock?: Clock
}

/** A DST/1 server in this process, on real sockets. It can be stopped and started again. */
export class Target {
  readonly exports = new ExportTable()
  readonly slab = new Slab()
  readonly network: Network
  admission!: Admission
  service!: DstService
  /** What the target's state directory keeps, also when it is killed. */
  readonly store = new MemoryStore()
  private readonly folder = mkdtempSync(join(tmpdir(), 'dst-wire-'))
  private readonly options: TargetOptions
  private readonly listeners: Listener[] = []
  private readonly devices: Device[] = []
  private tcpAt: Address = { kind: 'tcp', host: '127.0.0.1', port: 0 }

  constructor(options: TargetOptions = {}) {
    this.options = options
    this.network = options.network ?? new SocketNetwork(options.receive ?? 'landing')
  }

  /** Listens, on the same addresses as before if it did already, with a new service. */
  async start(): Promise<void> {
    const limits = { ...defaultLimits, ...this.options.limits }
    this.admission = new Admission(limits.bytesInFlight)
    const context = {
      admission: this.admission,
      slab: this.slab,
      clock: this.options.clock ?? systemClock,
      random: systemRandom,
      log: silentLog,
      limits,
      claims: new Claims(this.store),
    }
    this.service = new DstService(context)
    const accept: Accept = (connection) => this.service.accept(connection, this.exports)
    const tcp = await this.network.listen(this.tcpAt, accept)
    this.tcpAt = tcp.address
    this.listeners.push(tcp, await this.network.listen(this.unix, accept))
  }

  /** As when the process is killed: devices keep what they have. */
  async kill(): Promise<void> {
    for (const listener of this.listeners.splice(0)) await listener.close()
    this.service.destroy()
    await this.service.drain()
  }

  async stop(): Promise<void> {
    await this.kill()
    for (const device of this.devices) await device.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  get tcp(): Address {
    return this.tcpAt
  }

  get port(): number {
    return this.tcpAt.kind === 'tcp' ? this.tcpAt.port : 0
  }

  get unix(): Address {
    return { kind: 'unix', path: join(this.folder, 'dst.sock') }
  }

  /** Opens a device over the driver and exports it under the name. */
  async add(name: string, driver: Driver, readOnly = false): Promise<Device> {
    const device = new Device(name, driver, systemClock)
    this.devices.push(device)
    await device.open()
    this.exports.set(name, device, readOnly)
    return device
  }

  addMemory(name: string, size: number, readOnly = false): Promise<Device> {
    return this.add(name, new MemoryDriver(size, new SeededRandom(size)), readOnly)
  }
}

export function clientContext(
  receive: Receive = 'landing',
  clock: Clock = systemClock,
): ClientContext {
  const network = new SocketNetwork(receive)
  return { network, clock, random: systemRandom, slab: new Slab(), log: silentLog }
}

/** A device over an export; `open` is the caller's. */
export function remote(
  address: Address,
  name: string,
  options: Partial<RemoteOptions> = {},
  context = clientContext(),
): Device {
  const driver = new RemoteDriver({ ...defaultRemoteOptions, ...options, address, name }, context)
  return new Device(`remote ${name}`, driver, systemClock)
}

/** Resolves once the device's state satisfies `condition`. */
export function reaches(device: Device, condition: (device: Device) => boolean): Promise<void> {
  if (condition(device)) return Promise.resolve()
  return new Promise((resolve) => {
    const watcher = (): void => {
      if (!condition(device)) return
      device.unwatch(watcher)
      resolve()
    }
    device.watch(watcher)
  })
}
