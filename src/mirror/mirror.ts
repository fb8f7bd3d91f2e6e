import { StorageError } from '../base/errors.ts'
import type { Device, Driver, DriverHost } from '../device/device.ts'
import type { Request } from '../device/request.ts'
import type { HistoryEntry } from './record.ts'
import type { LegOptions, MirrorOptions } from './settings.ts'

export interface VerifyOptions {
  /** With two legs: the leg whose bytes are right. Without it differences are only counted. */
  readonly repairFrom?: string
  /** Whether a majority of three or more repairs the others; true if absent. */
  readonly repair?: boolean
  /** Bytes per second at most. */
  readonly bytesPerSecond?: number
}

export interface VerifyResult {
  readonly bytesChecked: number
  readonly bytesDifferent: number
  readonly bytesRepaired: number
  /** Where legs differ and which are in the minority (both of two); the first thousand. */
  readonly differences: readonly { offset: number; length: number; legs: readonly string[] }[]
}

/**
 * A volume: the same bytes on every leg, and the memory of which leg has them. Management methods
 * reject with a StorageError: CONFIG for what cannot be done as asked, with the reason.
 */
export class MirrorDriver implements Driver {
  readonly type = 'mirror'
  readonly children: Device[]

  constructor(options: MirrorOptions) {
    this.children = options.legs.map((leg) => leg.device)
  }

  open(host: DriverHost): Promise<void> {
    host.offline('offline', 'not built yet')
    return Promise.resolve()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  submit(request: Request): void {
    request.fail(new StorageError('UNSUPPORTED', 'not built yet'))
  }

  describe(): Record<string, unknown> {
    return { volume: 'waiting', generation: 0, legs: {} }
  }

  /** Starts a volume that waits; `force` is the operator's word that no absent leg is newer. */
  startVolume(options: { force?: boolean; leg?: string } = {}): Promise<void> {
    return unbuilt(options)
  }

  /** Takes a leg off as a consistent image. */
  detachLeg(name: string, options: { as?: string } = {}): Promise<void> {
    return unbuilt(name, options)
  }

  /** Returns a leg; resolves when it is syncing. `discard` drops what was changed on it alone. */
  attachLeg(name: string, options: { discard?: boolean } = {}): Promise<void> {
    return unbuilt(name, options)
  }

  /** Adds an opened device as a new leg, to be filled. */
  addLeg(leg: LegOptions, options: { discard?: boolean } = {}): Promise<void> {
    return unbuilt(leg, options)
  }

  /** Forgets a leg. The device is the caller's to close. */
  removeLeg(name: string): Promise<Device> {
    return unbuilt(name)
  }

  /** Has a leg copied whole again. */
  invalidateLeg(name: string): Promise<void> {
    return unbuilt(name)
  }

  /** Takes a leg as in sync without copying. */
  trustLeg(name: string): Promise<void> {
    return unbuilt(name)
  }

  /** Takes a leg off for good as an image without metadata. The device is the caller's to close. */
  exportLeg(name: string): Promise<Device> {
    return unbuilt(name)
  }

  verify(options: VerifyOptions = {}): Promise<VerifyResult> {
    return unbuilt(options)
  }

  history(): readonly HistoryEntry[] {
    return []
  }
}

function unbuilt(...asked: unknown[]): Promise<never> {
  const what = `not built yet (${asked.length})`
  return Promise.reject(new StorageError('UNSUPPORTED', what))
}
