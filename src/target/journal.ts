import type { Clock } from '../base/clock.ts'
import type { Code, StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Device, State } from '../device/device.ts'
import { QuietLog } from './quiet.ts'

/** Milliseconds between two lines about errors of one device with one code. */
const quietTime = 10_000
/** Changes of one device's state that are told in that time: a remote may say what it likes. */
const changesMax = 20

/** Errors that are a client's own: the device is well. */
const clientCodes: ReadonlySet<Code> = new Set([
  'INVALID',
  'RANGE',
  'READ_ONLY',
  'TOO_LARGE',
  'UNSUPPORTED',
  'SHUTDOWN',
])

interface Silence {
  readonly until: number
  unsaid: number
}

/** Writes what becomes of devices to the log: changes of state, and errors, a few of many. */
export class Journal {
  private readonly log: Log
  private readonly clock: Clock
  private readonly states = new WeakMap<Device, State>()
  private readonly logs = new WeakMap<Device, Log>()
  private readonly silences = new Map<string, Silence>()

  constructor(log: Log, clock: Clock) {
    this.log = log
    this.clock = clock
  }

  follow(device: Device): void {
    this.states.set(device, device.state)
    this.logs.set(device, new QuietLog(this.log, this.clock, changesMax, quietTime))
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
    else if (word === 'online') log.info(fields, message)
    else if (word === 'failed') log.error(fields, message)
    else log.warn(fields, message)
  }

  private readonly failed = (device: Device, error: StorageError): void => {
    if (clientCodes.has(error.code)) return
    // What comes from below has been reported there.
    const below =
      error.device === '' ? device.driver.children.length > 0 : error.device !== device.path
    if (below) return
    const key = `${device.path} ${error.code}`
    const silence = this.silences.get(key)
    const now = this.clock.now()
    if (silence !== undefined && now < silence.until) {
      silence.unsaid++
      return
    }
    const unsaid = silence?.unsaid ?? 0
    this.silences.set(key, { until: now + quietTime, unsaid: 0 })
    this.log.error(
      { device: device.path, code: error.code, unsaid },
      `${device.path}: ${error.message}`,
    )
  }
}
