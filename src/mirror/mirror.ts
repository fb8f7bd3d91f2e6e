import type { Timer } from '../base/clock.ts'
import { assert, StorageError } from '../base/errors.ts'
import type { Claimed, Device, Driver, DriverHost, Fencing } from '../device/device.ts'
import { fencingOf } from '../device/facts.ts'
import type { Request } from '../device/request.ts'
import { describe, history } from './announce.ts'
import { close } from './closing.ts'
import { changedAlone } from './data/compare.ts'
import { Verify, type VerifyOptions, type VerifyResult } from './data/verify.ts'
import { within } from './deadline.ts'
import { detachLeg, eraseLeg, exportLeg, leaveDetached } from './detaching.ts'
import { grow, makeReady } from './growth.ts'
import { addLeg, attachLeg, invalidateLeg, legToCompare, removeLeg, startVolume } from './manage.ts'
import type { HistoryEntry } from './record.ts'
import { bringBack } from './returning.ts'
import { legBytesFor, sizeWarning, whyNoSize, whyNotLarger } from './room.ts'
import { VerifySchedule } from './schedule.ts'
import type { AttachOptions, LegOptions, MirrorOptions } from './settings.ts'
import { giveUpNow, letGo } from './start/claims.ts'
import { tryStart } from './start/opening.ts'
import { trustLeg, Unseen } from './trust.ts'
import { Volume } from './volume.ts'

/** Milliseconds between two looks whether a volume that grew runs again. */
const restartMs = 10

/**
 * Milliseconds that an open waits for a volume that neither starts nor fails, such as one whose
 * record cannot be saved: the start goes on for as long as requests may be held.
 */
const openMsMax = 5000

/**
 * A volume: the same bytes on every leg, and the memory of which leg has them. Commands reject with
 * a StorageError: CONFIG and the reason for what cannot be done as asked.
 */
export class MirrorDriver implements Driver {
  readonly type = 'mirror'
  /** A mirror finds out by itself which legs may have been put back. */
  readonly restarts = null
  private readonly volume: Volume
  private readonly schedule: VerifySchedule
  private attempt = false
  /** The growth under way, and whether something happened to the legs since it began. */
  private growing: Promise<void> | null = null
  private changed = false
  /** Settles when the last verify has ended. */
  private verified: Promise<unknown> = Promise.resolve()

  constructor(options: MirrorOptions) {
    assert(options.legs.length > 0, 'a mirror has legs')
    this.volume = new Volume(options, {
      onWaiting: () => void this.startSoon(),
      onLeaving: (leg) => void this.alone((volume) => giveUpNow(volume, leg)),
      onGrown: () => void this.grow(),
      onReturn: (leg) => void this.alone((volume) => bringBack(volume, leg)),
    })
    this.schedule = new VerifySchedule(this.volume, (each) => this.verify(each))
  }

  get children(): readonly Device[] {
    return this.volume.legs.map((leg) => leg.device)
  }

  async open(host: DriverHost): Promise<void> {
    const { volume } = this
    volume.open(host)
    this.schedule.start()
    // A look through large disks takes hours, for which other devices are not to wait.
    const long = volume.looking.long()
    let timer: Timer | undefined
    const late = new Promise<void>((resolve) => {
      timer = volume.clock.timer(openMsMax, () => {
        if (volume.word === 'waiting' || volume.word === 'starting')
          host.offline('offline', 'the start takes long: its record is saved, or its legs are read')
        resolve()
      })
    })
    await Promise.race([this.startSoon(), long, late])
    timer?.cancel()
  }

  async close(): Promise<void> {
    this.volume.looking.stop()
    this.schedule.stop()
    await this.volume.control.run(() => close(this.volume))
  }

  submit(request: Request): void {
    this.volume.submit(request)
  }

  describe(): Record<string, unknown> {
    return describe(this.volume)
  }

  /** One leg that tells of a newer head is enough: the volume stops. */
  fencing(): Fencing {
    const each = this.volume.legs.map((leg) => fencingOf([leg.device.driver]))
    return each.find((one) => one === 'told') ?? each.find((one) => one === 'refused') ?? 'none'
  }

  /** Claims a volume that is a leg of another one, see `ClaimAbove`. */
  claim(epoch: number): Promise<void> {
    return this.volume.above.claim(this.volume, epoch)
  }

  claimed(): Promise<Claimed> {
    return Promise.resolve(this.volume.above.claimed)
  }

  /** Tries to start. However often that is asked for during an attempt, one more follows. */
  private async startSoon(): Promise<void> {
    if (this.attempt) return
    this.attempt = true
    await this.volume.control.run(async () => {
      this.attempt = false
      if (this.volume.host !== null) await tryStart(this.volume, { force: false, leg: null })
    })
  }

  private grow(): Promise<void> {
    this.changed = true
    this.growing ??= this.growOn().finally(() => (this.growing = null))
    return this.growing
  }

  private async growOn(): Promise<void> {
    while (this.changed) {
      this.changed = false
      const ready = await makeReady(this.volume)
      if (ready !== null) this.changed = !(await this.alone((volume) => grow(volume, ready)))
    }
  }

  /**
   * Bytes that a leg needs for the volume to have `dataSize` bytes. Throws CONFIG if it cannot grow
   * to that.
   */
  legBytesFor(name: string, dataSize: number): number {
    const { volume } = this
    const leg = volume.legs.find((one) => one.name === name)
    if (leg === undefined || !volume.running || volume.readable.length < volume.legs.length)
      throw new StorageError('CONFIG', whyNotLarger(volume), volume.path)
    const { dataSize: now } = volume.geometry
    if (dataSize <= now)
      throw new StorageError('CONFIG', `it has ${now} bytes: a volume does not shrink`, volume.path)
    const impossible = whyNoSize(volume, dataSize)
    if (impossible !== '') throw new StorageError('CONFIG', impossible, volume.path)
    return legBytesFor(volume, leg, dataSize)
  }

  /**
   * Uses what the legs have grown by, up to `dataSize` bytes even where the configuration says
   * less. Resolves to the bytes that the volume has then, and what keeps it from having more.
   */
  async growNow(dataSize = 0): Promise<{ readonly size: number; readonly reason: string }> {
    const { volume } = this
    volume.allowSize(dataSize)
    await this.grow()
    // The volume starts anew from the larger record: a moment, or as long as a leg takes to make
    // zeroes.
    while (volume.growing && !volume.running && volume.host !== null) await volume.pause(restartMs)
    return { size: volume.record?.dataSize ?? 0, reason: whyNotLarger(volume) }
  }

  /** A sentence if the volume is larger than the configuration says; '' if it is not. */
  get sizeWarning(): string {
    return sizeWarning(this.volume)
  }

  /** Starts a volume that waits; `force` is the operator's word that no absent leg is newer. */
  startVolume(options: { force?: boolean; leg?: string } = {}): Promise<void> {
    return this.alone((volume) => startVolume(volume, options))
  }

  /** Takes a leg off as a consistent image, remembered as `as`. */
  detachLeg(name: string, options: { as?: string } = {}): Promise<void> {
    return this.alone((volume) => detachLeg(volume, name, options))
  }

  /** Returns a leg; resolves when it is syncing. */
  attachLeg(name: string, options: AttachOptions = {}): Promise<void> {
    return this.orLeave(name, async () => {
      // Comparing takes long; the volume must be able to change meanwhile.
      const asked = await this.alone((volume) => legToCompare(volume, name))
      const compared =
        asked === null ? null : { ...asked, ...(await changedAlone(this.volume, asked.leg)) }
      await this.alone((volume) => attachLeg(volume, name, options, compared))
    })
  }

  /** Adds an opened device as a new leg, which is filled; from then on the volume closes it. */
  async addLeg(leg: LegOptions, options: { discard?: boolean } = {}): Promise<void> {
    const failed = await this.alone((volume) => addLeg(volume, leg, options))
    if (failed === null) return
    // What was written to it may land yet; but a disk that never answers holds up no command.
    await within(this.volume, letGo(this.volume, failed.leg, 'refused')).catch(() => undefined)
    throw failed.error
  }

  /** The device of a leg; undefined if there is no such leg. */
  deviceOf(name: string): Device | undefined {
    return this.volume.legs.find((leg) => leg.name === name)?.device
  }

  /** Removes a leg. Resolves when nothing can land on it any more; the caller closes the device. */
  async removeLeg(name: string): Promise<Device> {
    const leg = await this.alone((volume) => removeLeg(volume, name))
    await letGo(this.volume, leg)
    return leg.device
  }

  /** Has a leg copied whole again. */
  invalidateLeg(name: string): Promise<void> {
    return this.alone((volume) => invalidateLeg(volume, name))
  }

  /** Takes a leg as in sync without copying. */
  trustLeg(name: string): Promise<void> {
    const unseen = new Unseen(this.volume, name)
    const trusted = this.orLeave(name, () => this.alone((volume) => trustLeg(volume, name, unseen)))
    return trusted.finally(() => {
      unseen.end()
    })
  }

  /** Takes a leg off for good: an image without metadata. The device is the caller's to close. */
  async exportLeg(name: string): Promise<Device> {
    const { leg, geometry } = await this.orLeave(name, () =>
      this.alone(async (volume) => {
        const leg = await exportLeg(volume, name)
        // Copied now: the volume may grow before the metadata are erased.
        return { leg, geometry: { ...volume.geometry } }
      }),
    )
    await leg.drained()
    const erased = eraseLeg(this.volume, leg, geometry)
    // It is free only when nothing is written to it any more, however the erasing ends.
    const free = erased.catch(() => undefined).then(() => letGo(this.volume, leg))
    await erased
    await free
    return leg.device
  }

  /** Compares all legs in sync; its progress is in `describe`. */
  async verify(options: VerifyOptions = {}): Promise<VerifyResult> {
    const { volume } = this
    if (!volume.running) throw volume.unavailable()
    if (volume.verifying !== null)
      throw new StorageError('CONFIG', 'a verify is under way already', volume.path)
    const verifying = volume.compareWith(new Verify(volume, options))
    this.verified = verifying.catch(() => undefined)
    return verifying
  }

  /**
   * Ends a verify that is under way, whose result is then what it found so far. Resolves at its
   * end.
   */
  async stopVerify(): Promise<void> {
    this.volume.verifying?.stop('asked')
    await this.verified
  }

  /**
   * The history, oldest first, `historyMax` entries at most. While the volume does not run one more
   * says why.
   */
  history(): readonly HistoryEntry[] {
    return history(this.volume)
  }

  /** Carries out a command that claims a detached leg; if it fails, the leg is given up again. */
  private async orLeave<T>(name: string, command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (error) {
      await this.alone((volume) => leaveDetached(volume, name))
      throw error
    }
  }

  private alone<T>(task: (volume: Volume) => Promise<T>): Promise<T> {
    return this.volume.control.run(() => task(this.volume))
  }
}
