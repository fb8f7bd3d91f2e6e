import { StorageError, systemError } from '../base/errors.ts'
import { silentLog, type Log } from '../base/log.ts'
import type { Device } from '../device/device.ts'
import { FileDriver } from '../devices/file/file.ts'
import { MirrorDriver } from '../mirror/mirror.ts'
import type { AttachOptions } from '../mirror/settings.ts'
import { checkConfig } from '../config/config.ts'
import type * as config from '../config/config.types.ts'
import { speedMin } from '../config/quantity-check.ts'
import { suggestion } from '../config/suggest.ts'
import type { Target } from '../daemon/target.ts'
import { FileRights } from './file-rights.ts'
import { growLeg, growVolume } from './growing.ts'
import { lookingCommands, type Manager } from './management.ts'
import { statusOf } from './status.ts'

type Options = Readonly<Record<string, unknown>>

/** A command on a volume, with its options and their types. */
interface Command {
  readonly options?: Readonly<Record<string, 'string' | 'boolean' | 'speed' | 'size' | 'child'>>
  /** Carries it out; the options were checked. `leg` is '' for commands on a whole volume. */
  run(volume: MirrorDriver, leg: string, options: Options, manager: TargetManager): Promise<unknown>
}

const commands: Readonly<Record<string, Command>> = {
  'volume.start': {
    options: { force: 'boolean', leg: 'string' },
    run: (volume, _leg, options: { force?: boolean; leg?: string }) => volume.startVolume(options),
  },
  'volume.history': { run: (volume) => Promise.resolve(volume.history()) },
  'volume.verify': {
    options: { repairFrom: 'string', repair: 'boolean', bytesPerSecond: 'speed' },
    run: (volume, _leg, options) => volume.verify(options),
  },
  'volume.stopVerify': { run: (volume) => volume.stopVerify() },
  'volume.grow': {
    options: { size: 'size' },
    run: (volume, _leg, { size }, { target }) => growVolume(target, volume, sizeOr(size)),
  },
  'leg.grow': {
    options: { size: 'size' },
    run: (volume, leg, { size }, { target }) => growLeg(target, volume, leg, sizeOr(size)),
  },
  'leg.detach': {
    options: { as: 'string' },
    run: (volume, leg, options: { as?: string }) => volume.detachLeg(leg, options),
  },
  'leg.attach': {
    options: { discard: 'boolean', replace: 'boolean' },
    run: (volume, leg, options: AttachOptions, manager) => manager.attachLeg(volume, leg, options),
  },
  'leg.add': {
    options: { device: 'child', readLast: 'boolean', discard: 'boolean' },
    run: (volume, leg, options, manager) => manager.addLeg(volume, leg, options),
  },
  'leg.remove': {
    run: (volume, leg, _options, manager) => manager.dropLeg(volume, leg, volume.removeLeg(leg)),
  },
  'leg.invalidate': { run: (volume, leg) => volume.invalidateLeg(leg) },
  'leg.trust': { run: (volume, leg) => volume.trustLeg(leg) },
  'leg.export': {
    run: (volume, leg, _options, manager) => manager.dropLeg(volume, leg, volume.exportLeg(leg)),
  },
}

/** A size that was checked; null if none was given. */
function sizeOr(size: unknown): number | null {
  return typeof size === 'number' ? size : null
}

/** The answer to a command that changes the legs of a volume. */
interface Outcome {
  /** Says what the configuration does not have yet; '' if it has all. */
  readonly warning: string
}

/** Carries out commands on the volumes of a target. */
export class TargetManager implements Manager {
  readonly target: Target
  private readonly program: string
  private readonly rights: FileRights
  private readonly log: Log

  /** `program` is the name and version that `status` shows. */
  constructor(target: Target, program: string, log: Log = silentLog) {
    this.target = target
    this.log = log
    this.program = program
    this.rights = new FileRights(target.config)
  }

  async status(): Promise<unknown> {
    await this.target.looking.soon()
    return statusOf(this.target, this.program)
  }

  /** Carries a command out. Logs it with its peer, and its failure, unless it changes nothing. */
  async run(
    name: string,
    names: Readonly<Record<string, string>>,
    options: Options,
    peer = '',
  ): Promise<unknown> {
    if (lookingCommands.has(name)) return this.carryOut(name, names, options)
    const named = Object.entries(names).map(([what, each]) => [what, cut(each)])
    const asked = Object.fromEntries(named) as Record<string, string>
    const fields = {
      ...asked,
      ...(peer === '' ? {} : { peer }),
      command: cut(name),
      options: cut(JSON.stringify(options)),
    }
    const { audit } = this.target
    this.log.info(fields, `an operator gave a command: ${cut(name)}`)
    audit?.note({ event: 'command', ...fields })
    try {
      const answer = await this.carryOut(name, names, options)
      audit?.note({ event: 'commandEnd', ...fields, outcome: 'done' })
      return answer
    } catch (error) {
      this.log.info({ ...fields, err: error }, `a command of an operator failed: ${cut(name)}`)
      const { code, message } = systemError(error, 'the command')
      audit?.note({ event: 'commandEnd', ...fields, outcome: 'failed', code, reason: cut(message) })
      throw error
    }
  }

  private carryOut(
    name: string,
    names: Readonly<Record<string, string>>,
    options: Options,
  ): Promise<unknown> {
    if (name === 'claims.reset' || name === 'claim.reset') {
      const [option] = Object.keys(options)
      if (option !== undefined) return refused(`unknown option "${cut(option)}"; there are none`)
      const { target } = this
      return name === 'claims.reset' ? target.resetAllClaims() : target.resetClaim(names['export']!)
    }
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (command === undefined) {
      const meant = suggestion(name, Object.keys(commands))
      return refused(`there is no command ${cut(name)}${meant}`)
    }
    for (const [option, value] of Object.entries(options)) {
      const wrong = wrongOption(command, option, value)
      if (wrong !== null) return refused(wrong)
    }
    const volume = this.target.tree.find(names['volume']!)?.driver
    if (!(volume instanceof MirrorDriver)) {
      const known = this.target.tree.devices.filter(({ driver }) => driver instanceof MirrorDriver)
      const list = known.map(({ path }) => path).join(', ') || 'none'
      return refused(`there is no volume "${names['volume']!}"; volumes: ${list}`)
    }
    return command.run(volume, names['leg'] ?? '', options, this)
  }

  /** Attaches a leg again. First makes the files of one that is replaced, where that is allowed. */
  async attachLeg(volume: MirrorDriver, name: string, options: AttachOptions): Promise<void> {
    const { tree } = this.target
    const parent = tree.devices.find(({ driver }) => driver === volume)!
    const device = volume.children.find((leg) => tree.labelOf(leg) === name)
    const makes = options.replace === true && isRunning(volume) && device?.usable === false
    if (makes) await this.makeFiles(`${parent.path}/${name}`, device)
    await volume.attachLeg(name, options).catch((error: unknown) => {
      // Not an error if the new leg is already filled, because another part of it has the metadata.
      if (!makes || !takesPart(volume, name)) throw error
    })
  }

  /** Makes the missing files of a leg. Rejects if the leg cannot be used even then. */
  private async makeFiles(leg: string, device: Device): Promise<void> {
    const { replaced } = this.target.tree
    replaced.add(leg)
    await Promise.all(filesOf(device).map((file) => file.tryNow()))
    replaced.delete(leg)
    if (!device.usable) throw notThere(device)
  }

  /** Opens the device that `options.device` describes or names, and makes it a leg. */
  async addLeg(volume: MirrorDriver, name: string, options: Options): Promise<Outcome> {
    // Before the check of the device, whose errors tell whether a file is there and its size.
    const unseen = this.rights.refusal(options['device'])
    if (unseen !== null) throw new StorageError('CONFIG', unseen)
    const { tree, exports } = this.target
    const child = checkChild(name, options['device'], this.target.config)
    const written = exports
      .list()
      .find(({ device, readOnly }) => device.path === child && !readOnly)
    if (written !== undefined)
      throw new StorageError('CONFIG', `"${written.device.path}" is exported for writing`)
    const forbidden = this.rights.refusal(child)
    if (forbidden !== null) throw new StorageError('CONFIG', forbidden)
    const parent = tree.devices.find(({ driver }) => driver === volume)!
    const device = tree.adopt(parent, name, child)
    try {
      await this.target.join(device)
      if (!device.usable) throw notThere(device)
      const leg = { name, device, readLast: options['readLast'] === true }
      await volume.addLeg(leg, { discard: options['discard'] === true })
    } catch (error) {
      if (await this.release(device))
        await Promise.all(filesOf(device).map((file) => file.unmake()))
      throw error
    }
    return { warning: await this.target.changes.note(parent.path, name, 'added') }
  }

  /** Waits until the leg is removed, and takes its device from the tree. */
  async dropLeg(volume: MirrorDriver, name: string, removed: Promise<Device>): Promise<Outcome> {
    const { path } = this.target.tree.devices.find(({ driver }) => driver === volume)!
    const note = (): Promise<string> => this.target.changes.note(path, name, 'removed')
    const device = volume.deviceOf(name)
    try {
      await this.release(await removed)
    } catch (error) {
      // It may be gone although not all of the command was done, with requests under way.
      if (device !== undefined && volume.deviceOf(name) === undefined) {
        await note()
        void this.release(device)
      }
      throw error
    }
    return { warning: await note() }
  }

  /** Closes a device that was written in place, and returns true; one with a name stays. */
  private async release(device: Device): Promise<boolean> {
    if (!this.target.tree.release(device)) return false
    await device.close()
    return true
  }
}

function isRunning(volume: MirrorDriver): boolean {
  return ['healthy', 'syncing', 'degraded'].includes(String(volume.describe()['volume']))
}

function takesPart(volume: MirrorDriver, name: string): boolean {
  const legs = volume.describe()['legs'] as Readonly<Record<string, { state?: string }>>
  const { state } = legs[name] ?? {}
  return state === 'in-sync' || state === 'syncing'
}

/** The files that the device is made of, at any depth. */
function filesOf({ driver }: Device): readonly FileDriver[] {
  return driver instanceof FileDriver ? [driver] : driver.children.flatMap(filesOf)
}

function notThere({ path, state }: Device): StorageError {
  return new StorageError('CONFIG', `${path} is ${state.word}: ${state.reason}`)
}

/** Checks the device of a new leg. Returns its name, or the device with defaults filled in. */
function checkChild(name: string, child: unknown, { credentials }: config.Config): config.Child {
  if (child === undefined) throw new StorageError('CONFIG', 'a leg needs a device')
  const device = typeof child === 'string' ? anyDevice : child
  const loose = { credentials, devices: { [name]: device } }
  const { config } = checkConfig(loose, process.cwd(), 'the request')
  return typeof child === 'string' ? child : config.devices[name]!
}

/** Stands for a device that is there already, so that only the name of the leg is checked. */
const anyDevice = { type: 'memory', size: 1 }

function wrongOption({ options = {} }: Command, option: string, value: unknown): string | null {
  const known = Object.keys(options)
  if (!Object.hasOwn(options, option))
    return `unknown option "${option}"${suggestion(option, known)}; allowed: ${known.join(', ')}`
  switch (options[option]!) {
    case 'child':
      return null
    case 'boolean':
      return typeof value === 'boolean' ? null : `"${option}" is a boolean`
    case 'speed':
      return typeof value === 'number' && value >= speedMin
        ? null
        : `"${option}" is a number of bytes, at least ${speedMin}`
    case 'size':
      return Number.isSafeInteger(value) && (value as number) > 0
        ? null
        : `"${option}" is a number of bytes`
    case 'string':
      if (typeof value !== 'string') return `"${option}" is a string`
      // The text is kept for ever and shown to people.
      return unprintable.test(value) ? `"${option}" has characters that cannot be printed` : null
  }
}

/** Control characters, and those that change the order or the line of what follows. */
const unprintable = /[\p{Cc}\u2028-\u202e\u2066-\u2069]/u

/** Cuts a text of a peer to what an answer needs. */
function cut(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}

function refused(message: string): Promise<never> {
  return Promise.reject(new StorageError('CONFIG', message))
}
