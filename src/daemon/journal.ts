import type { Clock } from '../base/clock.ts'
import type { Code, StorageError } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import type { Log } from '../base/log.ts'
import type { Device, State } from '../device/device.ts'
import { hasGrown } from '../mirror/growth.ts'
import { FoldingLog } from './folding.ts'
import { QuietLog } from './quiet.ts'

/** Changes of one device's state that are logged: fewer if it goes on changing, as a remote may. */
const changesLogged = { linesMax: 20, timeMs: 10_000, timeMsMax: 60_000 }

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
 * True for a state that is no trouble: of a device that connects for the first time, and of a
 * mirror that lacks only legs that are being filled or were detached, or restarts because it grew.
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

/** Logs the changes of the states of devices, and their errors, a few of many. */
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

  /** Logs what happens to the device from now on. */
  follow(device: Device): void {
    this.states.set(device, device.state)
    this.logs.set(device, new QuietLog(this.log, this.clock, changesLogged))
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
    // An error from below has been logged there.
    const below =
      error.device === '' ? device.driver.children.length > 0 : error.device !== device.path
    if (below) return
    const { code, message } = error
    this.errors.error({ device: device.path, code }, `${device.path}: ${message}`)
  }

  /** The number of errors that are not written yet. */
  get untold(): number {
    return this.errors.untold
  }
}
