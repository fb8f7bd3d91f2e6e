import { assert, StorageError } from '../base/errors.ts'
import type { Device, Driver, DriverHost } from '../device/device.ts'
import type { Request } from '../device/request.ts'
import type { HistoryEntry } from './record.ts'
import { describe } from './announce.ts'
import { close } from './closing.ts'
import { tryStart } from './opening.ts'
import { bringBack } from './returning.ts'
import { Volume } from './volume.ts'
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
  private readonly volume: Volume
  private attempt = false

  constructor(options: MirrorOptions) {
    assert(options.legs.length > 0, 'a mirror has legs')
    this.volume = new Volume(options)
    this.volume.onWaiting = () => {
      void this.startSoon()
    }
    this.volume.onReturn = (leg) => {
      void this.volume.control.run(() => bringBack(this.volume, leg))
    }
  }

  get children(): readonly Device[] {
    return this.volume.legs.map((leg) => leg.device)
  }

  async open(host: DriverHost): Promise<void> {
    const { volume } = this
    volume.host = host
    volume.path = host.path
    await this.startSoon()
  }

  async close(): Promise<void> {
    await this.volume.control.run(() => close(this.volume))
  }

  submit(request: Request): void {
    this.volume.submit(request)
  }

  describe(): Record<string, unknown> {
    return describe(this.volume)
  }

  /** Tries to start; what asks for it while it is tried asks for one more attempt. */
  private async startSoon(): Promise<void> {
    if (this.attempt) return
    this.attempt = true
    await this.volume.control.run(async () => {
      this.attempt = false
      if (this.volume.host !== null) await tryStart(this.volume, { force: false, leg: null })
    })
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
    return this.volume.record?.entries ?? []
  }
}

function unbuilt(...asked: unknown[]): Promise<never> {
  const what = `not built yet (${asked.length})`
  return Promise.reject(new StorageError('UNSUPPORTED', what))
}
