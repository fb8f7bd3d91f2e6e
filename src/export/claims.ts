import { StorageError, systemError } from '../base/errors.ts'
import type { StateStore } from '../base/store.ts'
import type { Claimed, Device, Facts } from '../device/device.ts'
import type { Guests } from './service.ts'

/** Under which the store keeps them; no mirror's key has a dot. */
const key = 'target.claims'
/**
 * The highest claim that is granted: beyond what any head comes to, with every outbidding, and far
 * enough below what a number can say exactly for another one to be above it.
 */
export const claimMax = 2 ** 52 + 2 ** 51
/**
 * How far above the last claim of a device the next may be: as far as a head comes that an operator
 * has outbid another one, or that has worked for long while the device was away. So nobody makes a
 * claim final at once: whoever has to outbid it gets there the same way. A device that was never
 * claimed may have been a leg for long, elsewhere.
 */
const leapFactor = 2 ** 11
const leapMin = 2 ** 44
/** Devices whose claims are kept; of more, those claimed longest ago are forgotten. */
const claimsMax = 1024

/**
 * The highest epoch that each device was claimed with, by the device's identity; negative once that
 * claim was given up. It never sinks: an older head of whoever gave it up must not pass for a
 * newer one of whoever claims next. A claim is durable before it is answered: when the target
 * restarts, an older head finds the device claimed, also if it is the first to come back.
 */
export class Claims {
  private readonly store: StateStore
  /** Those claimed last come last. */
  private epochs = new Map<string, number>()
  private loading: Promise<void> | null = null
  private loaded = false
  /** Those who cannot claim, and who waits until nothing of theirs is under way. */
  private readonly guests = new Map<Device, DeviceGuests>()
  private waiting: (() => void)[] = []
  /** Told of a device whose claim an operator has reset, by its identity. */
  readonly resetWatchers = new Set<(identity: string) => void>()
  /** @internal */ version = 0
  private durable = 0

  constructor(store: StateStore) {
    this.store = store
  }

  /** Calls back, perhaps at once, when it is known what earlier runs of the target were told. */
  ready(callback: (problem: StorageError | null) => void): void {
    if (this.loaded) {
      callback(null)
      return
    }
    this.loading ??= this.load().finally(() => (this.loading = null))
    this.loading.then(
      () => callback(null),
      (error: unknown) => {
        callback(systemError(error, 'reading who has claimed devices'))
      },
    )
  }

  /** @internal Tried again with every question, if it failed. */
  get known(): boolean {
    if (!this.loaded) this.ready(() => undefined)
    return this.loaded
  }

  guestsOf(device: Device): Guests {
    const guests = this.guests.get(device) ?? new DeviceGuests(this, device)
    this.guests.set(device, guests)
    return guests
  }

  /** @internal Nothing of a device's guests is under way. */
  idle(): void {
    if (this.waiting.length === 0) return
    const told = this.waiting
    this.waiting = []
    for (const look of told) look()
  }

  /** Resolves when nothing is under way that guests began before the device was claimed. */
  async unchanging({ facts }: Device): Promise<void> {
    const busy = (): boolean =>
      [...this.guests.values()].some(
        ({ device, changes }) => changes > 0 && device.facts?.identity === facts?.identity,
      )
    while (busy()) await new Promise<void>((resolve) => this.waiting.push(resolve))
  }

  /** 0 when nobody claims the device. */
  of(device: Device): number {
    return Math.max(0, this.kept(device))
  }

  /** With what it was claimed last, given up or not: a head that claimed less is an older one. */
  last(device: Device): number {
    return Math.abs(this.kept(device))
  }

  describe(device: Device): Claimed {
    const held = this.of(device)
    return { held, givenUp: held > 0 ? 0 : this.last(device) }
  }

  /**
   * By an operator's word nothing is remembered of the device's claims. Resolves to what they were
   * when that is durable; rejects when the device was never reached, or it cannot be saved.
   */
  async reset(device: Device): Promise<Claimed> {
    const identity = device.facts?.identity
    if (identity === undefined)
      throw new StorageError('UNAVAILABLE', 'nobody knows yet which device it is', device.path)
    // A record that cannot be read is that of all devices: that takes a word of its own.
    await this.settled().catch((error: unknown) => {
      const { message } = systemError(error, 'reading who has claimed devices')
      const way = '`dst claim reset --all` has the claims of all devices forgotten'
      throw new StorageError('CONFIG', `${message}; ${way}`)
    })
    const before = this.describe(device)
    await this.forget((one) => one === identity)
    return before
  }

  /**
   * By an operator's word nothing is remembered of any claim: the way out where the record cannot
   * be read, and nobody is let in. Resolves, when that is durable, to how many devices were
   * claimed, held or given up; null where nobody knows.
   */
  async resetAll(): Promise<number | null> {
    const known = await this.settled().then(
      () => this.epochs.size,
      () => null,
    )
    await this.forget(() => true)
    return known
  }

  /**
   * Durable before it is true: until then, and where it cannot be saved, whoever has claimed a
   * device has it, and nobody else.
   */
  private async forget(isForgotten: (identity: string) => boolean): Promise<void> {
    const { version } = this
    const left = [...this.epochs].filter(([identity]) => !isForgotten(identity))
    await this.store.save(key, JSON.stringify(Object.fromEntries(left)))
    this.loaded = true
    // What was claimed meanwhile was saved with all that is forgotten only now.
    const isSaved = version === this.version
    this.version++
    if (isSaved) this.durable = this.version
    for (const identity of [...this.epochs.keys()].filter(isForgotten)) {
      this.epochs.delete(identity)
      for (const reset of this.resetWatchers) reset(identity)
    }
    await this.save()
  }

  /** Rejects when it cannot be known what earlier runs of the target were told. */
  private settled(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.ready((problem) => {
        if (problem === null) resolve()
        else reject(problem)
      })
    })
  }

  /** Resolves when it is durable. `epoch` is no lower than the last; 0 gives the claim up. */
  async set(device: Device, epoch: number): Promise<void> {
    const { identity } = device.facts!
    const kept = epoch === 0 ? -this.last(device) : epoch
    if (kept !== this.kept(device)) {
      this.epochs.delete(identity)
      this.epochs.set(identity, kept)
      for (const [oldest] of this.epochs)
        if (this.epochs.size > claimsMax) this.epochs.delete(oldest)
      this.version++
    }
    await this.save()
  }

  private async save(): Promise<void> {
    const { version } = this
    if (this.durable >= version) return
    await this.store.save(key, JSON.stringify(Object.fromEntries(this.epochs)))
    this.durable = Math.max(this.durable, version)
  }

  private kept(device: Device): number {
    return this.epochs.get(device.facts?.identity ?? '') ?? 0
  }

  private async load(): Promise<void> {
    const text = await this.store.load(key)
    const epochs = text === null ? new Map<string, number>() : parse(text)
    if (epochs === null) throw new StorageError('IO', `the record "${key}" is damaged`)
    // An operator may have had all forgotten meanwhile, and heads may have claimed since.
    if (this.loaded) return
    this.epochs = epochs
    this.loaded = true
  }
}

class DeviceGuests implements Guests {
  readonly device: Device
  /** Under way. */
  changes = 0
  private readonly claims: Claims
  /** Whether nobody claimed the device when it was looked up last, and what that was true of. */
  private free = false
  private facts: Facts | null = null
  private version = -1

  constructor(claims: Claims, device: Device) {
    this.claims = claims
    this.device = device
  }

  mayChange(): boolean {
    const { claims, device } = this
    // Nobody may before it is known.
    if (!claims.known) return false
    if (this.version !== claims.version || this.facts !== device.facts) {
      this.free = claims.of(device) === 0
      this.version = claims.version
      this.facts = device.facts
    }
    return this.free
  }

  began(): void {
    this.changes++
  }

  ended(): void {
    if (--this.changes === 0) this.claims.idle()
  }
}

/** The answer to who asks for the claim of a device; `docs/protocol.md` describes it. */
export function encodeClaimed({ held, givenUp }: Claimed): string {
  return `${held} ${givenUp}`
}

/** Null when no target can have said so. */
export function decodeClaimed(text: string): Claimed | null {
  const parts = /^(\d{1,16}) (\d{1,16})$/.exec(text)
  const [held, givenUp] = [Number(parts?.[1]), Number(parts?.[2])]
  return Number.isSafeInteger(held) && Number.isSafeInteger(givenUp) ? { held, givenUp } : null
}

export function tooLow(last: number, epoch: number): StorageError {
  return new StorageError('FENCED', `claimed with epoch ${last}, not ${epoch}`)
}

/** Why nobody may claim with so much what was claimed with `last`, 0 if never; null if one may. */
export function tooHigh(last: number, epoch: number): StorageError | null {
  const most = last === 0 ? claimMax : Math.min(claimMax, Math.max(leapMin, last * leapFactor))
  if (epoch <= most) return null
  const why =
    most === claimMax
      ? `no head comes to more than ${claimMax}`
      : `the last was ${last}, and the next is at most ${most}; \`dst claim reset\` takes it back`
  return new StorageError('INVALID', `a claim of ${epoch}: ${why}`)
}

function parse(text: string): Map<string, number> | null {
  try {
    const record: unknown = JSON.parse(text)
    if (typeof record !== 'object' || record === null || Array.isArray(record)) return null
    const entries = Object.entries(record)
    const sound = ([identity, epoch]: [string, unknown]): boolean =>
      /^[0-9a-f]{32}$/.test(identity) && Number.isSafeInteger(epoch)
    return entries.every(sound) ? new Map(entries as [string, number][]) : null
  } catch {
    return null
  }
}
