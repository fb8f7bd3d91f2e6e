import type { Clock } from '../base/clock.ts'
import type { Code, StorageError } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import type { Log } from '../base/log.ts'
import type { Device, State } from '../device/device.ts'
import { hasGrown } from '../mirror/growth.ts'
import { FoldingLog } from './folding.ts'
import { QuietLog } from './quiet.ts'

/** Milliseconds in which so many changes of one device's state are told. */
const quietTime = 10_000
const changesMax = 20
/** The same for a device that goes on changing: a remote may say what it likes. */
const quietTimeMax = 60_000

/** Errors that are a client's own: the device is well. */
const clientCodes: ReadonlySet<Code> = new Set([
  'INVALID',
  'RANGE',
  'READ_ONLY',
  'TOO_LARGE',
  'UNSUPPORTED',
  'SHUTDOWN',
])

/**
 * Whether it is no trouble: what connects for the first time, and a mirror that lacks nothing but
 * legs that are being filled or were taken off, or starts anew because it has grown.
 */
function isWanted({ state, driver }: Device): boolean {
  if (state.word === 'opening') return true
  if (driver.type !== 'mirror' || state.word !== 'degraded') return false
  const { legs, reason, differences } = driver.describe()
  if (reason === hasGrown) return true
  const all = isObject(legs) ? Object.values(legs).filter(isObject) : []
  const equal = Array.isArray(differences) && differences.length === 0
  return reason === '' && equal && all.every(({ state: leg }) => wantedStates.has(leg))
}

const wantedStates: ReadonlySet<unknown> = new Set(['in-sync', 'syncing', 'detached'])

/** Writes what becomes of devices to the log: changes of state, and errors, a few of many. */
export class Journal {
  private readonly log: Log
  private readonly errors: FoldingLog
  private readonly clock: Clock
  private readonly states = new WeakMap<Device, State>()
  private readonly logs = new WeakMap<Device, Log>()

  constructor(log: Log, clock: Clock) {
    this.log = log
    this.errors = new FoldingLog(log, clock)
    this.clock = clock
  }

  follow(device: Device): void {
    this.states.set(device, device.state)
    this.logs.set(device, this.quiet())
    device.watch(this.changed)
    device.onError = this.failed
  }

  private readonly changed = (device: Device): void => {
    const before = this.states.get(device)
    const { word, reason } = device.state
    if (before?.word === word && before.reason === reason) return
    this.states.set(device, device.state)
    const fields = { device: device.path, type: device.driver.type, state: word, reason }
    const message = `${device.path} is ${word}${reason === '' ? '' : `: ${reason}`}`
    const log = this.logs.get(device)!
    if (word === 'closed') log.debug(fields, message)
    else if (word === 'online' || isWanted(device)) log.info(fields, message)
    else if (word === 'failed') log.error(fields, message)
    else log.warn(fields, message)
  }

  private readonly failed = (device: Device, error: StorageError): void => {
    if (clientCodes.has(error.code)) return
    // What comes from below has been reported there.
    const below =
      error.device === '' ? device.driver.children.length > 0 : error.device !== device.path
    if (below) return
    const { code, message } = error
    this.errors.error({ device: device.path, code }, `${device.path}: ${message}`)
  }

  private quiet(): Log {
    return new QuietLog(this.log, this.clock, changesMax, quietTime, quietTimeMax)
  }

  /** Errors that were counted and are not written yet. */
  get untold(): number {
    return this.errors.untold
  }
}
