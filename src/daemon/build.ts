import { assert, StorageError } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import { Device, type Driver } from '../device/device.ts'
import { Lives } from '../device/lives.ts'
import { FileDriver, type FileOptions } from '../devices/file/file.ts'
import { LinearDriver } from '../devices/linear.ts'
import { MemoryDriver } from '../devices/memory.ts'
import { MirrorDriver } from '../mirror/mirror.ts'
import type * as config from '../config/config.types.ts'
import { legTimeoutOf } from '../config/patience.ts'
import { bytes } from '../config/quantities.ts'
import { childrenOf } from '../config/tree.ts'
import { GrownFiles } from './grown.ts'
import { layer } from './layers.ts'
import { remote } from './remotes.ts'
import { mirrorSettings } from './settings.ts'
import { whyNotMade } from './making.ts'
import { spareOf } from './spare.ts'
import { FileStore, keyOf } from './state.ts'
import type { LegSpot, Spot, World } from './world.ts'

/**
 * Milliseconds before a file that cannot be opened is tried again, and up to ten times that later:
 * it may be mounted, unlocked or plugged in at any time, and looking costs next to nothing.
 */
const fileRetryMs = 1000

/**
 * Builds the devices of a configuration that was checked. A device has one parent at most; those
 * without are the roots, and opening and closing them opens and closes all.
 */
export class Tree {
  /** The records that the target keeps between runs. */
  readonly store: FileStore
  /** Files that commands enlarged above their configured size. */
  readonly grown: GrownFiles
  /** Paths of legs that an operator replaces: their files may be made although they were there. */
  readonly replaced = new Set<string>()
  /** Knows which files failed a flush. */
  readonly lives: Lives
  private readonly world: World
  private readonly named: Readonly<Record<string, config.Device>>
  private readonly built = new Map<string, Device>()
  private readonly byPath = new Map<string, Device>()
  private readonly claimed = new Set<Device>()
  private readonly labels = new Map<Device, string>()

  constructor(config: Pick<config.Config, 'devices' | 'state'>, world: World) {
    this.world = world
    this.named = config.devices
    this.store = new FileStore(config.state.directory)
    this.grown = new GrownFiles(this.store, world.clock)
    this.lives = new Lives(this.store, spareOf(config.state.directory))
    // A parent builds its children, for a device below a mirror is built differently.
    const used = new Set(Object.values(config.devices).flatMap((each) => namesUsed(each)))
    for (const name of Object.keys(config.devices)) if (!used.has(name)) this.byName(name, null)
  }

  /** The devices without a parent. */
  get roots(): readonly Device[] {
    return [...this.built.values()].filter((device) => !this.claimed.has(device))
  }

  /** All devices, the children of each before it. */
  get devices(): readonly Device[] {
    return [...this.byPath.values()]
  }

  /** The present names of the legs of every volume. */
  legsByVolume(): ReadonlyMap<string, ReadonlySet<string>> {
    const volumes = this.devices.filter(({ driver }) => driver instanceof MirrorDriver)
    return new Map(
      volumes.map(({ path, driver }) => [
        path,
        new Set(driver.children.map((leg) => this.labelOf(leg))),
      ]),
    )
  }

  /** Finds a device by its name, or by its path when it is written in place. */
  find(path: string): Device | undefined {
    return this.byPath.get(path)
  }

  /** The name of a device in its parent; for a root, its own name. */
  labelOf(device: Device): string {
    return this.labels.get(device) ?? device.path
  }

  /**
   * Makes a device, or takes a root, that becomes a leg of `parent` while that one runs. Throws
   * CONFIG if the name is taken or the device cannot be a leg there.
   */
  adopt(parent: Device, label: string, child: config.Child): Device {
    const spot = { path: parent.path, leg: { volume: parent.path, name: label } }
    const taken = parent.driver.children.some((leg) => this.labelOf(leg) === label)
    // The name may also be taken by a leg that is just being added.
    if (taken || this.byPath.has(`${parent.path}/${label}`))
      throw new StorageError('CONFIG', `there is a leg ${label} already`, parent.path)
    if (typeof child !== 'string') return this.child(spot, label, child)
    const root = this.roots.find((device) => device.path === child)
    if (root === undefined)
      throw new StorageError('CONFIG', `"${child}" is no device, or part of another one`)
    if (contains(root, parent))
      throw new StorageError('CONFIG', `"${child}" cannot be a leg of what is part of it`)
    return this.child(spot, label, child)
  }

  /**
   * Takes the device from its parent. With a name of its own it is a root now. Otherwise it has
   * left the tree, and this returns true: the caller has to close it.
   */
  release(device: Device): boolean {
    this.claimed.delete(device)
    this.labels.delete(device)
    if (this.built.get(device.path) === device) return false
    this.forget(device)
    return true
  }

  private forget(device: Device): void {
    this.byPath.delete(device.path)
    for (const child of device.driver.children) this.forget(child)
  }

  private byName(name: string, leg: LegSpot | null): Device {
    const existing = this.built.get(name)
    if (existing !== undefined) return existing
    const device = this.build({ path: name, leg }, this.named[name]!)
    this.built.set(name, device)
    return device
  }

  private build(spot: Spot, description: config.Device): Device {
    const { clock, log } = this.world
    // Other drivers tell by themselves what they lost, also after a restart of this target.
    const lives = description.type === 'file' ? this.lives : null
    const device = new Device(spot.path, this.driver(spot, description), clock, lives)
    device.onUnkept = (err) => {
      log.error({ device: spot.path, err }, 'a later start will not know that a flush failed')
    }
    this.byPath.set(spot.path, device)
    return device
  }

  private driver(spot: Spot, device: config.Device): Driver {
    const { random, slab, clock } = this.world
    switch (device.type) {
      case 'file':
        return new FileDriver(this.fileOptions(spot, device), slab, clock)
      case 'memory':
        return new MemoryDriver(bytes(device.size), random)
      case 'remote':
      case 'nbd':
        return remote(spot, device, this.world)
      case 'linear':
        return new LinearDriver(device.parts.map((part, at) => this.child(spot, String(at), part)))
      case 'mirror':
        return this.mirror(spot, device)
      case 'crypt':
      case 'error':
      case 'delay':
      case 'log':
        return layer(device, this.child(spot, 'device', device.device), this.world)
    }
  }

  private fileOptions({ leg, path: device }: Spot, file: config.File): FileOptions {
    const { path, create, grow, direct, readOnly, size } = file
    const options = {
      ...{ path, create, grow, direct, readOnly },
      ...(size === undefined ? {} : { size: bytes(size) }),
      retryMs: fileRetryMs,
    }
    if (leg === null) return options
    const { store, replaced } = this
    const { clock } = this.world
    const mayNotCreate = () => whyNotMade(leg, path, { store, replaced, clock })
    if (options.size !== undefined) this.grown.expect(device, options.size)
    const grownTo = () => this.grown.sizeOf(device)
    return { ...options, guardWhenClaimed: true, mayNotCreate, grownTo }
  }

  private mirror({ path }: Spot, mirror: config.Mirror): MirrorDriver {
    const legs = Object.entries(mirror.legs).map(([name, leg]) => {
      const options = typeof leg === 'string' || 'type' in leg ? { device: leg } : leg
      const device = this.child({ path, leg: { volume: path, name } }, name, options.device)
      return { ...options, name, device }
    })
    const { clock, random, log } = this.world
    const { store } = this
    const { milliseconds } = legTimeoutOf({ ...mirror }, (name) => this.named[name])
    const settings = mirrorSettings(mirror, milliseconds)
    return new MirrorDriver({ legs, clock, random, log, store, key: keyOf(path), settings })
  }

  private child(parent: Spot, label: string, child: config.Child): Device {
    const { path, leg } = parent
    const device =
      typeof child === 'string'
        ? this.byName(child, leg)
        : this.build({ path: `${path}/${label}`, leg }, child)
    assert(!this.claimed.has(device), `${device.path} has one parent`)
    this.claimed.add(device)
    this.labels.set(device, label)
    return device
  }
}

function contains(device: Device, other: Device): boolean {
  return device === other || device.driver.children.some((child) => contains(child, other))
}

/** The names that a device uses, in its parts at any depth. */
function namesUsed(device: unknown): readonly string[] {
  if (typeof device === 'string') return [device]
  return isObject(device) ? childrenOf(device, '').flatMap(({ value }) => namesUsed(value)) : []
}
