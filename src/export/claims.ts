import { StorageError, systemError } from '../base/errors.ts'
import { fromJson, isObject } from '../base/guards.ts'
import type { StateStore } from '../base/store.ts'
import type { Claimed, Device, Facts } from '../device/device.ts'
import type { Export } from './export.ts'

/** The key of the record in the store; no mirror's key has a dot. */
const key = 'target.claims'
/**
 * The highest claim that is granted. No head comes to it, however often heads outbid each other;
 * and numbers are exact far enough above it for another claim to be higher.
 */
export const claimMax = 2 ** 52 + 2 ** 51
/**
 * How far above the last claim of a device the next may be: as far as a head comes when an operator
 * has it outbid another, or when it works for long while the device is away. So no client can make
 * its claim final at once: the head that has to outbid it gets as far. The first claim of a device
 * may be any, because it may have been a leg elsewhere for long.
 */
const leapFactor = 2 ** 11
const leapMin = 2 ** 44
/** The most devices whose claims are kept; of more, those claimed longest ago are forgotten. */
const claimsMax = 1024

/**
 * Remembers the highest fence number that each device was claimed with, by its identity; negative
 * once that claim was given up. Only an operator lowers it: otherwise an older head of the mirror
 * that gave its claim up would pass for a newer head of the mirror that claims next. A claim is
 * durable before it is answered: when the target restarts, an older head finds the device claimed,
 * also if it is the first to come back.
 */
export class Claims {
  private readonly store: StateStore
  /** By identity; the devices claimed last come last. */
  private fences = new Map<string, number>()
  private loading: Promise<void> | null = null
  private loaded = false
  /** Clients that cannot claim, and the callbacks that wait until no change of theirs is left. */
  private readonly guests = new Map<Device, Guests>()
  private waiting: (() => void)[] = []
  /** Called with the identity of a device whose claim an operator has reset. */
  readonly resetWatchers = new Set<(identity: string) => void>()
  /** @internal Rises with every change. */
  version = 0
  private durable = 0

  constructor(store: StateStore) {
    this.store = store
  }

  /** Calls back, perhaps at once, when the record is loaded; with a problem if it cannot be. */
  ready(callback: (problem: StorageError | null) => void): void {
    if (this.loaded) {
      callback(null)
      return
    }
    this.settled().then(
      () => callback(null),
      (error: unknown) => {
        callback(systemError(error, 'reading the claims of devices'))
      },
    )
  }

  /** @internal Whether the record is loaded; asking loads it, again if that failed before. */
  get known(): boolean {
    if (!this.loaded) this.ready(() => undefined)
    return this.loaded
  }

  /** The clients of a device that cannot claim it; the same object every time. */
  guestsOf(device: Device): Guests {
    const guests = this.guests.get(device) ?? new Guests(this, device)
    this.guests.set(device, guests)
    return guests
  }

  /** @internal The last change under way by the guests of a device has ended. */
  idle(): void {
    if (this.waiting.length === 0) return
    const told = this.waiting
    this.waiting = []
    for (const look of told) look()
  }

  /** Resolves when no change is under way that guests began before the device was claimed. */
  async unchanging({ facts }: Device): Promise<void> {
    const busy = (): boolean =>
      [...this.guests.values()].some(
        ({ device, changes }) => changes > 0 && device.facts?.identity === facts?.identity,
      )
    while (busy()) await new Promise<void>((resolve) => this.waiting.push(resolve))
  }

  /** The fence number of the claim in force; 0 when there is none. */
  of(device: Device): number {
    return Math.max(0, this.kept(device))
  }

  /** That of the last claim, given up or not; 0 if there was none. Older heads have less. */
  last(device: Device): number {
    return Math.abs(this.kept(device))
  }

  /** The claim in force, or the one that was given up, as clients are told. */
  describe(device: Device): Claimed {
    const held = this.of(device)
    return { held, givenUp: held > 0 ? 0 : this.last(device) }
  }

  /**
   * Forgets the claims of the device, when an operator says so. Resolves to what they were once
   * that is durable. Rejects with UNAVAILABLE when the device was never reached, with CONFIG when
   * the record cannot be read, and when it cannot be saved.
   */
  async reset(device: Device): Promise<Claimed> {
    const identity = device.facts?.identity
    if (identity === undefined)
      throw new StorageError('UNAVAILABLE', 'its identity is not known yet', device.path)
    // A record that cannot be read is that of all devices: to reset it takes another command.
    await this.settled().catch((error: unknown) => {
      const { message } = systemError(error, 'reading the claims of devices')
      const way = '`dst claim reset --all` forgets the claims of all devices'
      throw new StorageError('CONFIG', `${message}; ${way}`)
    })
    const before = this.describe(device)
    await this.forget((one) => one === identity)
    return before
  }

  /**
   * Forgets all claims, when an operator says so: the way out when the record cannot be read, and
   * no client is let in. Resolves, once that is durable, to how many devices had a claim, in force
   * or given up; null when the record could not be read.
   */
  async resetAll(): Promise<number | null> {
    const known = await this.settled().then(
      () => this.fences.size,
      () => null,
    )
    await this.forget(() => true)
    return known
  }

  /**
   * Saves before it forgets: until that is durable, and when it cannot be saved, every claim stays
   * in force.
   */
  private async forget(isForgotten: (identity: string) => boolean): Promise<void> {
    const { version } = this
    const left = [...this.fences].filter(([identity]) => !isForgotten(identity))
    await this.store.save(key, JSON.stringify(Object.fromEntries(left)))
    this.loaded = true
    // A claim made meanwhile was saved with the claims that are forgotten only now.
    const isSaved = version === this.version
    this.version++
    if (isSaved) this.durable = this.version
    for (const identity of [...this.fences.keys()].filter(isForgotten)) {
      this.fences.delete(identity)
      for (const reset of this.resetWatchers) reset(identity)
    }
    await this.save()
  }

  /** Resolves when the record is loaded; rejects when it cannot be. */
  private settled(): Promise<void> {
    if (this.loaded) return Promise.resolve()
    this.loading ??= this.load().finally(() => (this.loading = null))
    return this.loading
  }

  /** Resolves when the claim is durable. `fence` is not below the last; 0 gives the claim up. */
  async set(device: Device, fence: number): Promise<void> {
    const { identity } = device.facts!
    const kept = fence === 0 ? -this.last(device) : fence
    if (kept !== this.kept(device)) {
      this.fences.delete(identity)
      this.fences.set(identity, kept)
      for (const [oldest] of this.fences)
        if (this.fences.size > claimsMax) this.fences.delete(oldest)
      this.version++
    }
    await this.save()
  }

  private async save(): Promise<void> {
    const { version } = this
    if (this.durable >= version) return
    await this.store.save(key, JSON.stringify(Object.fromEntries(this.fences)))
    this.durable = Math.max(this.durable, version)
  }

  private kept(device: Device): number {
    return this.fences.get(device.facts?.identity ?? '') ?? 0
  }

  private async load(): Promise<void> {
    const text = await this.store.load(key)
    const fences = text === null ? new Map<string, number>() : parse(text)
    if (fences === null) throw new StorageError('IO', `the record "${key}" is damaged`)
    // An operator may have reset all claims meanwhile, and heads may have claimed since.
    if (this.loaded) return
    this.fences = fences
    this.loaded = true
  }
}

/** The clients of one device that cannot claim it, because their protocol has no claims. */
export class Guests {
  readonly device: Device
  /** How many changes are under way. */
  changes = 0
  private readonly claims: Claims
  /** Whether the device was unclaimed when last looked up, and the facts and version of then. */
  private free = false
  private facts: Facts | null = null
  private version = -1

  constructor(claims: Claims, device: Device) {
    this.claims = claims
    this.device = device
  }

  /** True while they may change the device. */
  mayChange(): boolean {
    const { claims, device } = this
    // Guests change nothing before the claims are known.
    if (!claims.known) return false
    if (this.version !== claims.version || this.facts !== device.facts) {
      this.free = claims.of(device) === 0
      this.version = claims.version
      this.facts = device.facts
    }
    return this.free
  }

  /** One of their changes begins, for which a claim has to wait; each ends once. */
  began(): void {
    this.changes++
  }

  ended(): void {
    if (--this.changes === 0) this.claims.idle()
  }
}

/** The answer to a question for the claim of a device, as `docs/protocol.md` describes it. */
export function encodeClaimed({ held, givenUp }: Claimed): string {
  return `${held} ${givenUp}`
}

/** Reads what `encodeClaimed` wrote; null when no target can have said so. */
export function decodeClaimed(text: string): Claimed | null {
  const parts = /^(\d{1,16}) (\d{1,16})$/.exec(text)
  const [held, givenUp] = [Number(parts?.[1]), Number(parts?.[2])]
  return Number.isSafeInteger(held) && Number.isSafeInteger(givenUp) ? { held, givenUp } : null
}

/** Why a client can neither claim the device of its export nor give a claim up; null if it can. */
export function mayNotClaim({ device, readOnly, mayClaim }: Export): StorageError | null {
  // A client that may only read is not to keep others from writing, nor to let them in.
  if (readOnly || device.facts?.readOnly === true)
    return new StorageError('READ_ONLY', 'it is read-only: only clients that write can claim it')
  if (mayClaim) return null
  return new StorageError('READ_ONLY', 'the rules of the export do not let this client claim it')
}

/** The refusal of a claim below the last one. */
export function tooLow(last: number, fence: number): StorageError {
  return new StorageError('FENCED', `claimed with fence number ${last}, not ${fence}`)
}

/** Why a claim is too far above the last one, which is 0 if there was none; null if it is not. */
export function tooHigh(last: number, fence: number): StorageError | null {
  const most = last === 0 ? claimMax : Math.min(claimMax, Math.max(leapMin, last * leapFactor))
  if (fence <= most) return null
  const why =
    most === claimMax
      ? `no head comes to more than ${claimMax}`
      : `the last was ${last}, and the next is at most ${most}; \`dst claim reset\` takes it back`
  return new StorageError('INVALID', `a claim of ${fence}: ${why}`)
}

function parse(text: string): Map<string, number> | null {
  const record = fromJson(text)
  if (!isObject(record)) return null
  const entries = Object.entries(record)
  const sound = ([identity, fence]: [string, unknown]): boolean =>
    /^[0-9a-f]{32}$/.test(identity) && Number.isSafeInteger(fence)
  return entries.every(sound) ? new Map(entries as [string, number][]) : null
}
