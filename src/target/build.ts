import type { Clock } from '../base/clock.ts'
import { assert } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Slab } from '../base/slab.ts'
import { Device, type Driver } from '../device/device.ts'
import { FileDriver, type FileOptions } from '../device/file.ts'
import { LinearDriver } from '../device/linear.ts'
import { MemoryDriver } from '../device/memory.ts'
import type { Network } from '../net/network.ts'
import { MirrorDriver } from '../mirror/mirror.ts'
import type * as config from './config.types.ts'
import { layer } from './layers.ts'
import { bytes } from './quantities.ts'
import { mirrorSettings } from './settings.ts'
import { FileStore, keyOf } from './state.ts'

/** The world, as devices are given it. */
export interface World {
  readonly clock: Clock
  readonly random: Random
  readonly network: Network
  readonly slab: Slab
  readonly log: Log
}

/**
 * The devices of a configuration that was checked. A device has one parent at most; those without
 * are the roots, and opening and closing them opens and closes all.
 */
export class Tree {
  readonly roots: readonly Device[]
  /** Paths of files that are made when they are not there. */
  readonly created: string[] = []
  private readonly world: World
  private readonly store: FileStore
  private readonly named: Readonly<Record<string, config.Device>>
  private readonly built = new Map<string, Device>()
  private readonly byPath = new Map<string, Device>()
  private readonly claimed = new Set<Device>()
  private readonly labels = new Map<Device, string>()

  constructor(config: Pick<config.Config, 'devices' | 'state'>, world: World) {
    this.world = world
    this.named = config.devices
    this.store = new FileStore(config.state.directory)
    for (const name of Object.keys(config.devices)) this.byName(name)
    this.roots = [...this.built.values()].filter((device) => !this.claimed.has(device))
  }

  /** All devices, the children of each before it. */
  get devices(): readonly Device[] {
    return [...this.byPath.values()]
  }

  /** By its name, or by its path when it is written in place. */
  find(path: string): Device | undefined {
    return this.byPath.get(path)
  }

  /** Whether the device is part of another one. */
  isClaimed(device: Device): boolean {
    return this.claimed.has(device)
  }

  /** What its parent calls the device, or its own name. */
  labelOf(device: Device): string {
    return this.labels.get(device) ?? device.path
  }

  private byName(name: string): Device {
    const existing = this.built.get(name)
    if (existing !== undefined) return existing
    const device = this.build(name, this.named[name]!)
    this.built.set(name, device)
    return device
  }

  private build(path: string, description: config.Device): Device {
    const device = new Device(path, this.driver(path, description), this.world.clock)
    this.byPath.set(path, device)
    return device
  }

  private driver(path: string, device: config.Device): Driver {
    const { random, slab, clock } = this.world
    const below = (child: config.Child): Device => this.child(path, 'device', child)
    switch (device.type) {
      case 'file':
        if (device.create) this.created.push(device.path)
        return new FileDriver(fileOptions(device), slab, clock)
      case 'memory':
        return new MemoryDriver(bytes(device.size), random)
      case 'linear':
        return new LinearDriver(device.parts.map((part, at) => this.child(path, String(at), part)))
      case 'mirror':
        return this.mirror(path, device)
      case 'error':
      case 'delay':
      case 'log':
        return layer(device, below(device.device), this.world)
    }
  }

  private mirror(path: string, mirror: config.Mirror): MirrorDriver {
    const legs = Object.entries(mirror.legs).map(([name, leg]) => {
      const options = typeof leg === 'string' || 'type' in leg ? { device: leg } : leg
      return { ...options, name, device: this.child(path, name, options.device) }
    })
    const { clock, random, log } = this.world
    const settings = mirrorSettings(mirror)
    return new MirrorDriver({
      legs,
      clock,
      random,
      log,
      store: this.store,
      key: keyOf(path),
      settings,
    })
  }

  private child(parent: string, label: string, child: config.Child): Device {
    const device =
      typeof child === 'string' ? this.byName(child) : this.build(`${parent}/${label}`, child)
    assert(!this.claimed.has(device), `${device.path} has one parent`)
    this.claimed.add(device)
    this.labels.set(device, label)
    return device
  }
}

function fileOptions(file: config.File): FileOptions {
  const { path, create, grow, direct, readOnly, size } = file
  const options = { path, create, grow, direct, readOnly }
  return size === undefined ? options : { ...options, size: bytes(size) }
}
