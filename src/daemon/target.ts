import { networkInterfaces } from 'node:os'
import { dirname } from 'node:path'
import type { Timer } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import { assert, StorageError, systemError } from '../base/errors.ts'
import { makeFolder } from '../base/folders.ts'
import type { Log } from '../base/log.ts'
import type { Claimed, Device } from '../device/device.ts'
import { Operation, Request } from '../device/request.ts'
import { defaultPorts, formatUri, parseAddress, type Address } from '../net/address.ts'
import type { SocketAccess } from '../net/access.ts'
import { openDescriptors, type Descriptors } from '../net/descriptors.ts'
import type { Accept, Listener } from '../net/network.ts'
import type { Export } from '../export/export.ts'
import { Admission } from '../export/admission.ts'
import { Places, type Refused } from '../export/places.ts'
import type { ClientStatus, Service } from '../export/service.ts'
import { Claims } from '../export/claims.ts'
import { MirrorDriver } from '../mirror/mirror.ts'
import type * as config from '../config/config.types.ts'
import { accessOf, limitsOf, milliseconds } from '../config/quantities.ts'
import { passesByItself } from './addresses.ts'
import { Tree } from './build.ts'
import { Changes } from './changes.ts'
import { ExportTable } from './exports.ts'
import { FoldingLog } from './folding.ts'
import type { GrownFiles } from './grown.ts'
import { Journal } from './journal.ts'
import { Looking } from './looking.ts'
import { QuietLog } from './quiet.ts'
import { createService } from './services.ts'
import { StateLock } from './state-lock.ts'
import type { World } from './world.ts'

/** A listener of the target and what it serves. */
export interface Served {
  readonly protocol: config.Listener['protocol']
  /** Where it listens: the chosen port instead of 0. */
  readonly address: Address
  readonly service: Service
  readonly listener: Listener
}

/** Takes what operators ask of a running target. */
export interface Management {
  /** Resolves to the address it has: the chosen port instead of 0. */
  listen(address: Address, access: SocketAccess): Promise<Address>
  /** Closes every connection at once. */
  close(): void
}

/** What the target gives its management. */
export interface ManagementContext {
  readonly target: Target
  /** Of clients that are turned away. */
  readonly refusals: Log
  readonly commands: Log
  readonly descriptors: Descriptors | null
}

/** Of the time for a stop, the part that clients get; the rest is for flushing and closing. */
const drainShare = 0.75

/** Milliseconds in which so many lines are logged of what clients do, of one protocol. */
const quietTime = 10_000
const linesMax = 100
/** Those of clients that were not let in: the count that goes with them tells the rest. */
const refusalLinesMax = 3

/** One configuration, carried out: devices, exports, listeners; from start to stop. */
export class Target {
  readonly config: config.Config
  readonly tree: Tree
  readonly exports: ExportTable
  /** Wall clock, milliseconds. */
  readonly startedAt: number
  private readonly world: World
  private readonly services = new Map<config.Listener['protocol'], Service>()
  private served: readonly Served[] = []
  private open = false
  private readonly places: Places
  private stopped: Promise<boolean> | null = null
  private readonly management: Management | null
  private managed: Address | null = null
  /** Of all protocols: who has claimed a device over one may not lose it to a client of another. */
  private readonly claims: Claims
  private readonly stateLock: StateLock
  private readonly journal: Journal
  /** What commands changed and the configuration does not say. */
  readonly changes: Changes
  readonly grown: GrownFiles
  /** Notices that files and disks have grown. */
  readonly looking: Looking
  /** What the target and its devices log: whatever is tried again says the same again. */
  private readonly folding: FoldingLog

  /**
   * `config` was checked, so an error in it now is a mistake of ours. `manage` makes what its
   * `management` is served by; it may be absent where the configuration has none.
   */
  constructor(
    config: config.Config,
    world: World,
    manage?: (context: ManagementContext) => Management,
  ) {
    this.config = config
    this.folding = new FoldingLog(world.log, world.clock)
    this.world = { ...world, log: this.folding, requestLog: world.log }
    this.startedAt = world.clock.wall()
    this.tree = new Tree(config, this.world)
    this.claims = new Claims(this.tree.store)
    this.stateLock = new StateLock(config.state.directory, this.folding)
    const quiet = new QuietLog(this.folding, world.clock, refusalLinesMax, quietTime)
    const descriptors = openDescriptors()
    this.places = new Places(limitsOf(config.limits), quiet, descriptors)
    this.changes = new Changes(this.tree.store, world.clock, this.tree.legsByVolume())
    this.grown = this.tree.grown
    this.looking = new Looking(world.clock, () => this.tree.devices)
    this.journal = new Journal(world.log, world.clock)
    const commandLog = new QuietLog(this.folding, world.clock, linesMax, quietTime)
    this.management =
      manage?.({ target: this, refusals: quiet, commands: commandLog, descriptors }) ?? null
    this.exports = new ExportTable(
      Object.entries(config.exports).map(([name, each]): Export => {
        const { readOnly, description } = each
        return { name, device: this.tree.find(each.device)!, readOnly, description }
      }),
    )
  }

  get listeners(): readonly Served[] {
    return this.served
  }

  /** Where commands reach the target; null when nobody wants any. */
  get managementAddress(): Address | null {
    return this.managed
  }

  /** Connections that were not let in, by reason. */
  get refused(): Readonly<Refused> {
    return this.places.refused
  }

  clients(): readonly ClientStatus[] {
    return [...this.services.values()].flatMap((service) => service.clients())
  }

  /**
   * Listens, opens the devices, then lets clients in. Rejects with a StorageError, with everything
   * closed again, before a device was opened: with code CONFIG for what an operator must mend, such
   * as an address in use, with UNAVAILABLE for an address that this machine does not have yet.
   * What cannot be opened, a remote that is away or a file that is not there, does not stop the
   * start: it is tried again while the others are served. With code CLAIMED when all devices are
   * files or disks that somebody else has.
   */
  async start(): Promise<void> {
    for (const device of this.tree.devices) this.journal.follow(device)
    try {
      // First, and with nobody let in: whoever finds its address in use has touched no device.
      await this.listen()
      if (this.remembers) await this.stateLock.acquire()
      // All, also when one cannot be opened: what is closed while it is being opened stays open.
      const opened = await Promise.allSettled(this.tree.roots.map((device) => device.open()))
      const failed = opened.find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      this.mustHaveSomething()
    } catch (error) {
      await this.closeListeners()
      this.management?.close()
      await Promise.allSettled(this.tree.roots.map((device) => device.close()))
      await this.stateLock.release()
      throw error
    }
    const { clock } = this.world
    const claims = new Promise<StorageError | null>((resolve) => {
      this.claims.ready(resolve)
    })
    const problem = await inTime(clock, claims, 'the state directory').catch(
      (error: unknown) => error as StorageError,
    )
    if (problem !== null)
      this.folding.error(
        { err: problem },
        'who has claimed the devices is not known: clients of DST/1 are refused, others only read',
      )
    this.open = true
    if (this.stopped === null) this.looking.start()
    await inTime(clock, this.changes.load(), 'the state directory').catch(() => undefined)
    for (const warning of this.warnings) this.world.log.warn({}, warning)
  }

  /** What the configuration does not say, and should. */
  get warnings(): readonly string[] {
    const { lives } = this.tree
    const lost = lives.warning === '' ? [] : [lives.warning]
    const drivers = this.tree.devices.map(({ driver }) => driver)
    const sizes = drivers.flatMap((one) => (one instanceof MirrorDriver ? one.sizeWarning : []))
    const grown = [...this.grown.warnings, ...sizes.filter((text) => text !== '')]
    return [...lost, ...this.changes.warnings, ...grown]
  }

  /** Whether anything is ever saved in the state directory: records of mirrors, claims of heads. */
  private get remembers(): boolean {
    const { config, tree } = this
    const mirrors = tree.devices.some(({ driver }) => driver.type === 'mirror')
    return mirrors || config.listeners.some(({ protocol }) => protocol === 'dst')
  }

  /** Where others have every disk and file, as a second target by mistake, nothing is served. */
  private mustHaveSomething(): void {
    const { roots } = this.tree
    if (roots.length === 0 || !roots.every(({ state }) => state.code === 'CLAIMED')) return
    const reasons = roots.map(({ path, state }) => `${state.reason} (${path})`)
    throw new StorageError('CLAIMED', reasons.join('\n'))
  }

  /** The URIs by which clients reach an export, one for each listener. */
  urisOf(name: string): readonly string[] {
    return this.served.map(({ protocol, address }) =>
      formatUri({ protocol, address: reachable(address), name }),
    )
  }

  /**
   * Stops accepting, answers what is in flight, flushes, closes. Resolves to whether all of that
   * was done within `limits.stopTimeout`; whatever it takes, it does not take longer.
   */
  stop(): Promise<boolean> {
    this.stopped ??= this.shutDown()
    return this.stopped
  }

  private async shutDown(): Promise<boolean> {
    const { log, clock } = this.world
    const time = milliseconds(this.config.limits.stopTimeout)
    const end = clock.now() + time
    log.info({ timeout: time }, 'stopping')
    this.looking.stop()
    await this.closeListeners()
    const drains = [...this.services.values()].map((service) => service.drain())
    const drained = await this.within(time * drainShare, Promise.all(drains))
    if (!drained) {
      const inFlight = this.tree.roots.reduce((sum, root) => sum + root.counters.inFlight, 0)
      log.warn({ inFlight }, 'clients were cut off: their requests take too long')
      for (const service of this.services.values()) service.destroy()
    }
    const open = new Set(this.tree.roots)
    let finished = true
    const finish = async (device: Device): Promise<void> => {
      if (!(await this.finish(device))) finished = false
      open.delete(device)
    }
    const closing = Promise.all([...open].map(finish))
    const closed = await this.within(Math.max(0, end - clock.now()), closing)
    for (const device of closed ? [] : open)
      log.error({ device: device.path }, `${device.path} was not flushed and closed in time`)
    this.management?.close()
    await this.stateLock.release()
    const untold = this.journal.untold + this.folding.untold
    if (untold > 0) log.info({ untold }, `${untold} lines like earlier ones were not written`)
    return drained && closed && finished
  }

  /**
   * Flushes and closes a root; whether both went well. The log says why they did not, and that
   * concerns no other root. What cannot be flushed now was never said to be.
   */
  private async finish(device: Device): Promise<boolean> {
    const { path: name, facts } = device
    let well = true
    const fail = ({ code, message }: StorageError): void => {
      well = false
      this.world.log.error({ device: name, code }, `${name} was not closed cleanly: ${message}`)
    }
    const flushes = facts !== null && !facts.readOnly && facts.flush !== 'none'
    if (flushes && device.usable) {
      const error = await flush(device)
      if (error !== null) fail(error)
    } else if (flushes && device.hasUnflushed)
      fail(new StorageError('UNAVAILABLE', `it is ${device.state.word} and cannot be flushed`))
    await device.close().catch((error: unknown) => fail(systemError(error, 'closing')))
    return well
  }

  /** Whether `work` ended within `ms` milliseconds. */
  private async within(ms: number, work: Promise<unknown>): Promise<boolean> {
    let timer: Timer | undefined
    const late = new Promise<boolean>((resolve) => {
      timer = this.world.clock.timer(ms, () => resolve(false))
    })
    const ended = await Promise.race([work.then(() => true), late])
    timer?.cancel()
    return ended
  }

  /** Tries every address, to report all that cannot be had. */
  private async listen(): Promise<void> {
    const served: Served[] = []
    const problems: StorageError[] = []
    const attempt = async (text: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work()
      } catch (error) {
        problems.push(systemError(error, `listening on ${text}`))
      }
    }
    this.served = served
    for (const { protocol, address: text, ...rights } of this.config.listeners)
      await attempt(text, async () => {
        const accept: Accept = (connection) => {
          if (!this.open) return null
          // It learns the size once it has said what it wants, which takes longer than a look.
          void this.looking.look()
          return service.accept(connection)
        }
        const address = parseAddress(text, defaultPorts[protocol])!
        const service = this.service(protocol)
        await makeFolderOf(address)
        const { keepAlive } = limitsOf(this.config.limits)
        const options = { access: accessOf(rights), keepAlive }
        const listener = await this.world.network.listen(address, accept, options)
        served.push({ protocol, address: listener.address, service, listener })
      })
    const { management } = this.config
    if (management !== undefined)
      await attempt(management.address, async () => {
        const address = parseAddress(management.address)!
        await makeFolderOf(address)
        assert(this.management !== null, 'nothing serves the management')
        this.managed = await this.management.listen(address, accessOf(management))
      })
    if (problems.length === 0) return
    // What an operator must mend is no less so beside an address that may be there in a moment.
    const code = problems.every(passesByItself) ? 'UNAVAILABLE' : 'CONFIG'
    throw new StorageError(code, problems.map(({ message }) => message).join('\n'))
  }

  /**
   * Has the target forget which head has claimed an export's device, and which gave it up: for one
   * that nobody can outbid. Resolves to what the claims were.
   */
  async resetClaim(name: string): Promise<Claimed> {
    const found = this.exports.find(name)
    if (found === undefined) {
      const names = this.exports.list().map((one) => one.name)
      throw new StorageError('CONFIG', `there is no export "${name}"; exports: ${names.join(', ')}`)
    }
    const before = await this.claims.reset(found.device)
    this.folding.warn({ export: name, ...before }, 'an operator has reset the claim of an export')
    return before
  }

  /** The same for all devices at once, also where the record of the claims cannot be read. */
  async resetAllClaims(): Promise<{ readonly forgotten: number | null }> {
    const forgotten = await this.claims.resetAll()
    this.folding.warn({ forgotten }, 'an operator has reset the claims of all devices')
    return { forgotten }
  }

  /** Opens a device that joins the tree while the target runs. */
  async join(device: Device): Promise<void> {
    this.journal.follow(device)
    if (device.state.word === 'opening') await device.open()
  }

  private service(protocol: config.Listener['protocol']): Service {
    const existing = this.services.get(protocol)
    if (existing !== undefined) return existing
    const limits = limitsOf(this.config.limits)
    this.admission ??= new Admission(limits.bytesInFlight, limits.payload, this.world.clock)
    const { clock, random, slab, log } = this.world
    const { exports, admission, places } = this
    const quiet = new QuietLog(log, clock, linesMax, quietTime)
    const context = { exports, admission, slab, clock, random, log: quiet, limits, places }
    const service = createService(protocol, context, this.claims)
    this.services.set(protocol, service)
    return service
  }

  /** One for all protocols: the limit is that of the process. */
  private admission: Admission | null = null

  private async closeListeners(): Promise<void> {
    await Promise.all(this.served.map(({ listener }) => listener.close()))
  }
}

/** Where a listener on all addresses can be connected to: `0.0.0.0` is none. */
function reachable(address: Address): Address {
  if (address.kind === 'unix' || !['0.0.0.0', '::'].includes(address.host)) return address
  const family = address.host === '::' ? 'IPv6' : 'IPv4'
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? [])
  const outer = all.find((each) => !each.internal && each.family === family && !each.scopeid)
  return { ...address, host: outer?.address ?? (family === 'IPv6' ? '::1' : '127.0.0.1') }
}

async function makeFolderOf(address: Address): Promise<void> {
  if (address.kind === 'unix') await makeFolder(dirname(address.path))
}

/** Flushes a device; what that failed with. */
export function flush(device: Device): Promise<StorageError | null> {
  return new Promise((resolve) => {
    const owner = {
      completed(request: Request) {
        const { error } = request
        request.release()
        resolve(error)
      },
    }
    device.submit(Request.take(Operation.flush, 0, 0, 0, owner))
  })
}
