import { silentLog } from '../../src/base/log.ts'
import type { Random } from '../../src/base/random.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device, type Driver, type DriverHost } from '../../src/device/device.ts'
import { isChange, Operation, type Request } from '../../src/device/request.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Admission } from '../../src/export/admission.ts'
import { Claims } from '../../src/export/claims.ts'
import type { Limits } from '../../src/export/limits.ts'
import type { Service, ServiceContext } from '../../src/export/service.ts'
import { ExportList } from '../nbd/rig.ts'
import { defaultLimits } from '../support/limits.ts'
import { read, write } from '../support/io.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { noiseOf } from './mutate.ts'
import { must, type Trial } from './trial.ts'
import { Peer, port, World } from './world.ts'

/** A change that reached the device, or has to. */
export interface Change {
  readonly operation: Operation
  readonly offset: number
  readonly length: number
  /** The bytes of a write. */
  readonly payload: Buffer | null
}

/** Memory that notes the changes that reach it. */
class NotingDriver implements Driver {
  readonly type = 'noting'
  readonly forgets = true
  readonly children = []
  readonly changes: Change[] = []
  private readonly memory: MemoryDriver

  constructor(memory: MemoryDriver) {
    this.memory = memory
  }

  open(host: DriverHost): Promise<void> {
    return this.memory.open(host)
  }

  close(): Promise<void> {
    return this.memory.close()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  stamp(): Promise<string> {
    return this.memory.stamp()
  }

  submit(request: Request): void {
    const { operation, offset, length, segments } = request
    if (isChange(operation)) {
      const payload = operation === Operation.write ? Buffer.concat(segments) : null
      this.changes.push({ operation, offset, length, payload })
    }
    this.memory.submit(request)
  }
}

/** Carries the change out on a model of the device. */
export function apply(model: Buffer, { operation, offset, length, payload }: Change): void {
  if (payload !== null) payload.copy(model, offset)
  // A trimmed range of memory reads as zeroes, too.
  else if (operation !== Operation.write) model.fill(0, offset, offset + length)
}

/** The name of the export that may be written to, and of one that may not. */
export const names = { open: 'disk', readOnly: 'other' } as const

/** Makes the service that is tried. */
export type Serve = (context: ServiceContext) => Service

/** Makes the device that is compared with the model. */
export type MemoryOf = (size: number, random: Random) => MemoryDriver

const memoryOf: MemoryOf = (size, random) => new MemoryDriver(size, random)

/** A service with two exports, and a hostile client of it. */
export class Served {
  readonly world: World
  readonly trial: Trial
  readonly limits: Limits
  readonly context: ServiceContext
  readonly exports = new ExportList()
  readonly size: number
  /** What both devices held at the beginning. */
  readonly content: Buffer
  readonly service: Service
  private readonly noting: NotingDriver
  private readonly devices: Device[] = []

  constructor(trial: Trial, serve: Serve, memory: MemoryOf = memoryOf) {
    const { dice } = trial
    this.trial = trial
    const world = new World(trial)
    this.world = world
    const large = dice.chance(0.15)
    this.size = large ? 3 * MiB + 4 * KiB : dice.pick([192 * KiB, 100_000, 4096])
    this.limits = {
      ...defaultLimits,
      payload: large ? MiB : dice.pick([128 * KiB, MiB]),
      bytesInFlight: dice.pick([4 * MiB, 64 * MiB]),
      bytesPerConnection: dice.pick([2 * MiB, 64 * MiB]),
      requestsPerConnection: dice.pick([1, 3, 128]),
    }
    this.context = {
      admission: new Admission(this.limits.bytesInFlight, this.limits.payload, world.watch),
      slab: world.slab,
      clock: world.watch,
      random: dice.fork(),
      log: silentLog,
      limits: this.limits,
      claims: new Claims(new MemoryStore()),
    }
    this.content = Buffer.from(noiseOf(dice, this.size))
    this.noting = new NotingDriver(memory(this.size, dice.fork()))
    this.service = serve(this.context)
  }

  /** Opens the devices and listens. */
  async open(): Promise<void> {
    const { world, service, exports, context } = this
    const other = new MemoryDriver(this.size, this.trial.dice.fork())
    for (const [name, driver] of [
      [names.open, this.noting],
      [names.readOnly, other],
    ] as const) {
      const device = new Device(name, driver, world.watch)
      await device.open()
      await write(device, 0, this.content)
      this.devices.push(device)
      exports.add(name, device, name === names.readOnly, 'a device to break')
    }
    this.noting.changes.length = 0
    context.claims.ready(() => undefined)
    await world.quiet()
    const address = { kind: 'tcp', host: 'tested', port } as const
    await world.tested.network.listen(address, (connection) => {
      const handler = service.accept(connection, exports)
      return handler === null ? null : world.watched(handler)
    })
  }

  /** The changes that have reached the device. */
  get changes(): readonly Change[] {
    return this.noting.changes
  }

  /** Connects a hostile client. */
  async connect(): Promise<Peer> {
    const { world, trial } = this
    let peer: Peer | null = null
    const address = { kind: 'tcp', host: 'tested', port } as const
    world.hostile.network.connect(
      address,
      1000,
      (connection) => (peer = new Peer(connection)),
      () => undefined,
    )
    trial.connections++
    await world.until(() => peer !== null, 2000, 'it can be connected to')
    return peer!
  }

  /** What the device has now. */
  current(): Promise<Buffer> {
    return read(this.devices[0]!, 0, this.size)
  }

  /** All clients are gone: nothing of them may be left. */
  async close(): Promise<void> {
    const { world, context, service, devices } = this
    await world.until(() => service.clients().length === 0, 120_000, 'all clients are gone')
    service.destroy()
    await world.settle(service.drain(), 120_000, 'the service has drained')
    for (const device of devices) await world.settle(device.close(), 60_000, 'a device closes')
    await world.quiet()
    const left = context.admission.bytesInFlight
    must(left === 0, `${left} bytes stay admitted for ever`)
    world.checkMemory(2 * this.limits.bytesInFlight + 8 * MiB)
  }
}
