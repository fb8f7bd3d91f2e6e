import { dirname } from 'node:path'
import { endsWithin, inTime } from '../base/deadline.ts'
import { assert, StorageError, systemError } from '../base/errors.ts'
import { makeFolder } from '../base/folders.ts'
import type { Log } from '../base/log.ts'
import type { Claimed, Device } from '../device/device.ts'
import { parseAddress, type Address } from '../net/address.ts'
import { bareTls, defaultPorts, formatUri } from '../net/uri.ts'
import { openDescriptors, type Descriptors } from '../net/descriptors.ts'
import type { Accept, Listener } from '../net/network.ts'
import type { EntranceTls, Export } from '../export/export.ts'
import { Admission } from '../export/admission.ts'
import { Places, type Refused } from '../export/places.ts'
import type { ClientStatus, Service } from '../export/service.ts'
import { Claims } from '../export/claims.ts'
import { DstService } from '../wire/server.ts'
import { NbdService } from '../nbd/server.ts'
import { MirrorDriver } from '../mirror/mirror.ts'
import type * as config from '../config/config.types.ts'
import { managementsOf } from '../config/management.ts'
import { accessOf, limitsOf, milliseconds } from '../config/quantities.ts'
import { passesByItself, reachable } from './addresses.ts'
import { alsoNoted, AuditLog } from './audit.ts'
import { Tree } from './build.ts'
import { Changes } from './changes.ts'
import { Credentials } from './credentials.ts'
import { ExportTable } from './exports.ts'
import { flush } from './flush.ts'
import { FoldingLog } from './folding.ts'
import type { GrownFiles } from './grown.ts'
import { Journal } from './journal.ts'
import { Looking } from './looking.ts'
import { QuietLog } from './quiet.ts'
import { Reread } from './reread.ts'
import { StateLock } from './state-lock.ts'
import type { World } from './world.ts'

/** A listener of the target and its service. */
export interface Served {
  readonly protocol: config.Listener['protocol']
  /** The address, with the chosen port instead of 0. */
  readonly address: Address
  readonly tls: 'off' | EntranceTls['mode']
  readonly service: Service
  readonly listener: Listener
}

/** Takes the commands of operators to a running target. */
export interface Management {
  /** Resolves to the URL or address, with the chosen port instead of 0. */
  listen(place: config.Management): Promise<string>
  /** Closes every connection at once. */
  close(): void
}

/** The parts of the target that its management uses. */
export interface ManagementContext {
  readonly target: Target
  /** The log of callers that are turned away. */
  readonly refusals: Log
  readonly commands: Log
  readonly descriptors: Descriptors | null
}

/** The server of each protocol. */
const services = { dst: DstService, nbd: NbdService } as const

/** The share of the time for a stop that clients get; the rest is for flushing and closing. */
const drainShare = 0.75

/** Lines that the clients of one protocol, or operators, can cause in ten seconds. */
const clientLines = { linesMax: 100, timeMs: 10_000 }
/** Lines about refused clients in ten seconds: the counts in them tell the rest. */
const refusalLines = { linesMax: 3, timeMs: 10_000 }

/** Runs one configuration from start to stop: its devices, exports and listeners. */
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
  /** Certificates and keys for TLS. */
  readonly credentials: Credentials
  private readonly managed: string[] = []
  /** Claims of all protocols: a claim over one holds against the clients of another. */
  private readonly claims: Claims
  private readonly stateLock: StateLock
  private readonly journal: Journal
  /** Changes by commands that the configuration does not have. */
  readonly changes: Changes
  readonly grown: GrownFiles
  /** Notices that files and disks have grown. */
  readonly looking: Looking
  /** The log of the target and its devices: attempts that fail again repeat their lines. */
  private readonly folding: FoldingLog
  /** The log of who did what; null where none is configured. */
  readonly audit: AuditLog | null
  private readonly reread: Reread

  /**
   * `config` was checked, so an error in it now is a mistake of ours. `manage` makes the server of
   * the management; it may be absent where the configuration has none.
   */
  constructor(
    config: config.Config,
    world: World,
    manage?: (context: ManagementContext) => Management,
  ) {
    this.config = config
    this.folding = new FoldingLog(world.log, world.clock)
    const { audit } = config
    this.audit = audit === undefined ? null : new AuditLog(audit, world.clock, this.folding)
    this.startedAt = world.clock.wall()
    this.credentials = new Credentials(config, world.clock, this.folding)
    const { credentials } = this
    this.world = { ...world, credentials, log: this.folding, requestLog: world.log }
    this.tree = new Tree(config, this.world)
    this.claims = new Claims(this.tree.store)
    this.stateLock = new StateLock(config.state.directory, this.folding)
    const quiet = alsoNoted(new QuietLog(this.folding, world.clock, refusalLines), this.audit?.note)
    const descriptors = openDescriptors()
    this.places = new Places(limitsOf(config.limits), quiet, descriptors)
    this.changes = new Changes(this.tree.store, world.clock, this.tree.legsByVolume())
    this.grown = this.tree.grown
    this.looking = new Looking(world.clock, () => this.tree.devices)
    this.journal = new Journal(world.log, world.clock)
    const commandLog = new QuietLog(this.folding, world.clock, clientLines)
    const refusals = new QuietLog(this.folding, world.clock, refusalLines)
    this.management =
      manage?.({ target: this, refusals, commands: commandLog, descriptors }) ?? null
    const exports = Object.entries(config.exports).map(([name, each]): Export => {
      const { readOnly, description } = each
      return { name, device: this.tree.find(each.device)!, readOnly, mayClaim: true, description }
    })
    this.exports = new ExportTable(exports, world.clock)
    this.exports.apply(config.exports)
    this.reread = new Reread(config)
  }

  get listeners(): readonly Served[] {
    return this.served
  }

  /** Where commands are taken. */
  get managements(): readonly string[] {
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
   * Listens, opens the devices, then lets clients in. A device that cannot be opened, such as a
   * remote that is away or a file that is not there, does not stop the start: it is tried again
   * while the others are served. Rejects with a StorageError, with everything closed again:
   *
   * - CONFIG for what an operator must mend, such as an address in use,
   * - UNAVAILABLE for an address that this machine does not have yet,
   * - CLAIMED when all devices are files or disks that other processes have.
   */
  async start(): Promise<void> {
    for (const device of this.tree.devices) this.journal.follow(device)
    try {
      // First, and with clients kept out: a target whose address is in use must open no device.
      await this.listen()
      if (this.remembers) await this.stateLock.acquire()
      // Wait for all, also when one fails: a device that is closed during its opening stays open.
      const opened = await Promise.allSettled(this.tree.roots.map((device) => device.open()))
      const failed = opened.find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      this.mustHaveSomething()
    } catch (error) {
      await this.closeListeners()
      this.management?.close()
      await Promise.allSettled(this.tree.roots.map((device) => device.close()))
      await this.stateLock.release()
      await this.audit?.close()
      throw error
    }
    this.audit?.note({ event: 'start' })
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
        'the claims on the devices are not known: clients of DST/1 are refused, others only read',
      )
    this.open = true
    if (this.stopped === null) {
      this.looking.start()
      this.credentials.start()
    }
    await inTime(clock, this.changes.load(), 'the state directory').catch(() => undefined)
    for (const warning of this.warnings) this.world.log.warn({}, warning)
  }

  /** Sentences about the target itself that an operator has to see to; each makes it degraded. */
  get troubles(): readonly string[] {
    const credentials = this.credentials.status.map(({ warning }) => warning)
    return [...credentials, this.audit?.warning ?? '', this.reread.problem].filter(isSaid)
  }

  /** Sentences about what the configuration should say and does not, and about lost records. */
  get warnings(): readonly string[] {
    const { lives } = this.tree
    const lost = lives.warning === '' ? [] : [lives.warning]
    const drivers = this.tree.devices.map(({ driver }) => driver)
    const sizes = drivers.flatMap((one) => (one instanceof MirrorDriver ? one.sizeWarning : []))
    const grown = [...this.grown.warnings, ...sizes.filter(isSaid)]
    return [...lost, ...this.changes.warnings, ...grown, ...this.troubles]
  }

  /** True if the state directory is used: for records of mirrors, or claims of heads. */
  private get remembers(): boolean {
    const { config, tree } = this
    const mirrors = tree.devices.some(({ driver }) => driver.type === 'mirror')
    return mirrors || config.listeners.some(({ protocol }) => protocol === 'dst')
  }

  /** Throws if other processes have every disk and file: a second target was started by mistake. */
  private mustHaveSomething(): void {
    const { roots } = this.tree
    if (roots.length === 0 || !roots.every(({ state }) => state.code === 'CLAIMED')) return
    const reasons = roots.map(({ path, state }) => `${state.reason} (${path})`)
    throw new StorageError('CLAIMED', reasons.join('\n'))
  }

  /** The URIs of an export, one for each listener. */
  urisOf(name: string): readonly string[] {
    return this.served.map(({ protocol, address, tls }) => {
      const way = tls === 'required' ? bareTls : null
      return formatUri({ protocol, address: reachable(address), name, tls: way })
    })
  }

  /**
   * Stops accepting, answers the requests in flight, flushes, closes. Resolves to true if all of
   * that was done, and in any case within `limits.stopTimeout`.
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
    this.audit?.note({ event: 'stop' })
    this.looking.stop()
    this.credentials.stop()
    await this.closeListeners()
    const drains = [...this.services.values()].map((service) => service.drain())
    const drained = await endsWithin(clock, Promise.all(drains), time * drainShare)
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
    const closed = await endsWithin(clock, closing, Math.max(0, end - clock.now()))
    for (const device of closed ? [] : open)
      log.error({ device: device.path }, `${device.path} was not flushed and closed in time`)
    this.management?.close()
    // A save that nobody waits for could replace what the next owner of the directory has saved.
    await endsWithin(clock, this.tree.store.idle(), Math.max(0, end - clock.now()))
    await this.stateLock.release()
    await this.audit?.close()
    const untold = this.journal.untold + this.folding.untold
    if (untold > 0) log.info({ untold }, `${untold} lines like earlier ones were not written`)
    return drained && closed && finished
  }

  /**
   * Flushes and closes a root. Resolves to true if both succeeded; the log says why they did not.
   * Never rejects, so that the other roots are closed as well.
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

  /** Listens on every address. Rejects with a line for each that cannot be had. */
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
    for (const { protocol, address: text, exports, ...rights } of this.config.listeners)
      await attempt(text, async () => {
        const tls = this.credentials.entranceTls({ protocol, ...rights })
        const entrance = { ...this.exports.entrance(exports), ...tls }
        const mode = tls.tls?.mode ?? 'off'
        const accept: Accept = (connection) => {
          if (!this.open) return null
          // The client learns the size after it has asked for an export, which takes longer.
          void this.looking.look()
          return service.accept(connection, entrance)
        }
        const address = parseAddress(text, defaultPorts[protocol])!
        const service = this.service(protocol)
        await makeFolderOf(address)
        const { keepAlive } = limitsOf(this.config.limits)
        const options = { access: accessOf(rights), keepAlive }
        const listener = await this.world.network.listen(address, accept, options)
        served.push({ protocol, address: listener.address, tls: mode, service, listener })
      })
    for (const place of managementsOf(this.config))
      await attempt(place.address, async () => {
        await makeFolderOf(parseAddress(place.address)!)
        assert(this.management !== null, 'the management has a server')
        this.managed.push(await this.management.listen(place))
      })
    if (problems.length === 0) return
    // UNAVAILABLE only if all may pass: else an operator has to mend something.
    const code = problems.every(passesByItself) ? 'UNAVAILABLE' : 'CONFIG'
    throw new StorageError(code, problems.map(({ message }) => message).join('\n'))
  }

  /**
   * Reads the files of credentials that have changed and, by `read`, the rules and limits of
   * exports. The rest of the configuration stays as it is until a restart.
   */
  reload(read?: () => config.Config): Promise<void> {
    void this.audit?.look()
    if (read !== undefined) this.readRules(read)
    // One that is under way may have passed over what has changed since.
    return this.credentials.look().then(() => this.credentials.look())
  }

  private readRules(read: () => config.Config): void {
    const terms = this.reread.terms(read)
    const { problem } = this.reread
    this.audit?.note({
      event: 'rules',
      outcome: terms === null ? 'failed' : 'done',
      reason: problem,
    })
    if (terms === null) this.folding.error({}, problem)
    else {
      this.exports.apply(terms)
      for (const service of this.services.values()) service.recheck()
      this.folding.info({}, 'the rules and limits of exports were read')
    }
  }

  /**
   * Forgets the claims on an export's device, held and given up: for a claim that no head can
   * outbid. Resolves to what they were. Rejects with CONFIG for an unknown export.
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

  /** Forgets the claims on all devices, also when their record cannot be read. */
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
    const { exports, admission, places, claims } = this
    const quiet = new QuietLog(log, clock, clientLines)
    const shared = { exports, admission, places, claims, audit: this.audit?.note }
    const service = new services[protocol]({ ...shared, slab, clock, random, log: quiet, limits })
    this.services.set(protocol, service)
    return service
  }

  /** Shared by all protocols, because its limit is that of the process. */
  private admission: Admission | null = null

  private async closeListeners(): Promise<void> {
    await Promise.all(this.served.map(({ listener }) => listener.close()))
  }
}

function isSaid(text: string): boolean {
  return text !== ''
}

async function makeFolderOf(address: Address): Promise<void> {
  if (address.kind === 'unix') await makeFolder(dirname(address.path))
}
