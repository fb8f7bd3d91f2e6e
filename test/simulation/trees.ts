import type { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import type { StateStore } from '../../src/base/store.ts'
import { Device, type Driver } from '../../src/device/device.ts'
import { Lives } from '../../src/device/lives.ts'
import type { Entrance, Exports } from '../../src/export/export.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { Operation, Request, type Completer } from '../../src/device/request.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { Admission } from '../../src/export/admission.ts'
import { Pace, unlimited, type Rates } from '../../src/export/pace.ts'
import type { ServiceContext } from '../../src/export/service.ts'
import type { Address } from '../../src/net/address.ts'
import { defaultRemoteOptions } from '../../src/wire/remote-options.ts'
import { RemoteDriver } from '../../src/wire/remote.ts'
import { Claims } from '../../src/export/claims.ts'
import { DstService } from '../../src/wire/server.ts'
import { DiskDriver } from './disk.ts'
import type { Machine, Process } from './machine.ts'
import type { Medium } from './medium.ts'
import type { LegPlan, Plan } from './plan.ts'
import type { StateDirectory } from './store.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { defaultLimits } from '../support/limits.ts'

const port = 4470

export function serviceContext(process: Process, store: StateStore): ServiceContext {
  return {
    admission: new Admission(defaultLimits.bytesInFlight, undefined, process.clock),
    slab: process.slab,
    clock: process.clock,
    random: process.dice,
    log: silentLog,
    limits: defaultLimits,
    claims: new Claims(store),
  }
}

/** Exports one device under the name `disk`. */
export function only(device: Device): Entrance {
  const found = { name: 'disk', device, readOnly: false, mayClaim: true, description: '' }
  const exports: Exports = {
    find: (name) => (name === 'disk' ? found : undefined),
    list: () => [found],
  }
  return { seenBy: () => exports }
}

/** A leg of the world: its disk, and the target that exports it unless it is the head's own. */
export class Leg {
  readonly plan: LegPlan
  readonly machine: Machine
  readonly medium: Medium
  /** Null for a disk of the head's own machine. */
  readonly target: Target | null

  constructor(plan: LegPlan, machine: Machine, medium: Medium, target: Target | null) {
    this.plan = plan
    this.machine = machine
    this.medium = medium
    this.target = target
  }

  get name(): string {
    return this.plan.name
  }
}

const unheard: Completer = {
  completed: (request) => {
    request.release()
  },
}

export class Target {
  readonly machine: Machine
  readonly medium: Medium
  process: Process | null = null
  /** How fast its clients may go; null: as fast as they can. */
  rates: Rates | null = null
  private device: Device | null = null
  private readonly store = new MemoryStore()

  constructor(machine: Machine, medium: Medium) {
    this.machine = machine
    this.medium = medium
  }

  async start(): Promise<void> {
    const process = this.machine.start('target')
    this.process = process
    const { clock } = process
    const lives = new Lives(this.store)
    const device = new Device('disk', new DiskDriver(this.medium, process), clock, lives)
    this.device = device
    await device.open()
    const service = new DstService(serviceContext(process, this.store))
    const pace = new Pace(clock)
    pace.become(this.rates ?? unlimited)
    const entrance: Entrance = { ...only(device), paceOf: () => pace }
    await process.network.listen(addressOf(this.machine), (connection) =>
      service.accept(connection, entrance),
    )
  }

  /** Flushes its disk, as it does for another client of its own. */
  flush(): void {
    this.device!.submit(Request.take(Operation.flush, 0, 0, 0, unheard))
  }
}

/** A running head: its process, its tree. */
export class Head {
  /** Heads are counted, and claim with their number. */
  readonly number: number
  readonly process: Process
  readonly device: Device
  /** Of each part of the volume; none without mirrors. */
  readonly mirrors: readonly MirrorDriver[]
  /** The parts of the volume, in order; the volume itself if it has one only. */
  readonly parts: readonly Device[]
  private readonly plan: Plan
  private readonly leaves: readonly Device[]
  private readonly legs: readonly Leg[]
  /** Which of its own disks failed a flush. */
  private readonly lives: Lives
  /** Commands of operators that it has not answered yet. */
  commands = 0
  /** Whether opening came to an end. */
  opened = false
  /** Whether it has clients. */
  used = false

  constructor(
    machine: Machine,
    plan: Plan,
    legs: readonly Leg[],
    state: StateDirectory,
    number: number,
  ) {
    this.number = number
    const process = machine.start('head')
    this.process = process
    this.plan = plan
    this.lives = new Lives(state.open(process), state.spare)
    const leaves = legs.map((leg) => this.leaf(leg))
    this.leaves = leaves
    this.legs = legs
    const spans = [...new Set(legs.map((leg) => leg.plan.span))]
    const mirror = (span: number): MirrorDriver =>
      new MirrorDriver({
        legs: legs.flatMap(({ name, plan: { readLast, span: own } }, at) =>
          own === span ? [{ name, device: leaves[at]!, readLast }] : [],
        ),
        clock: process.clock,
        random: process.dice,
        log: silentLog,
        store: state.open(process),
        key: `volume${span}`,
        settings: plan.settings,
      })
    this.mirrors = plan.shape === 'remote' ? [] : spans.map(mirror)
    this.parts =
      plan.shape === 'remote'
        ? leaves
        : this.mirrors.map((driver, at) => new Device(`volume${at}`, driver, process.clock))
    this.device =
      this.parts.length === 1
        ? this.parts[0]!
        : new Device('linear', new LinearDriver(this.parts), process.clock)
  }

  /** A device for the leg, not opened yet. */
  leaf(leg: Leg): Device {
    const { plan, process } = this
    // Others say by themselves what they lost, over the restarts of whoever asks.
    const lives = leg.target === null ? this.lives : null
    return new Device(leg.name, leafOf(leg, plan, process), process.clock, lives)
  }

  /** The device of a leg that was there from the beginning. */
  deviceOf(leg: Leg): Device {
    return this.leaves[this.legs.indexOf(leg)]!
  }

  /** The mirror that the leg belongs to, if any. */
  mirrorOf(leg: Leg): MirrorDriver | null {
    return this.mirrors[leg.plan.span] ?? null
  }

  async open(): Promise<void> {
    await this.device.open()
    // A mirror does so by itself: what an earlier head left under way must not land any more.
    if (this.mirrors.length === 0) await this.claim()
    this.opened = true
  }

  private async claim(): Promise<void> {
    const pause = (): Promise<void> =>
      new Promise((resolve) => {
        this.process.clock.timer(10, resolve)
      })
    for (const device of this.leaves) {
      // A claim that no answer came for may be made again, until it is certain.
      let claimed = false
      while (!claimed) {
        claimed = await device.driver.claim!(this.number).then(
          () => true,
          (error: unknown) => {
            if ((error as StorageError).code === 'FENCED') throw error
            return false
          },
        )
        await pause()
      }
    }
  }
}

function leafOf(leg: Leg, plan: Plan, process: Process): Driver {
  if (leg.target === null) return new DiskDriver(leg.medium, process)
  const address = addressOf(leg.machine)
  const follow = plan.shape !== 'remote'
  const options = { ...defaultRemoteOptions, ...plan.remote, address, name: 'disk', follow }
  const { network, clock, dice: random, slab } = process
  return new RemoteDriver(options, { network, clock, random, slab, log: silentLog })
}

function addressOf(machine: Machine): Address {
  return { kind: 'tcp', host: machine.name, port }
}
