import { StorageError, type Code } from '../../base/errors.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import { describeSource, readSecret, type SecretSource } from '../../base/secret.ts'
import { roundDown } from '../../base/size.ts'
import type { Slab } from '../../base/slab.ts'
import type { Device, DriverHost, Facts } from '../../device/device.ts'
import { digest, seenFromAbove } from '../../device/facts.ts'
import type { Request } from '../../device/request.ts'
import { Layer } from '../faults/layer.ts'
import { Deriver } from './deriver.ts'
import { isFault, type Header } from './header.ts'
import { Medium } from './medium.ts'
import { atOnceBytes } from './queue.ts'
import { CryptSession } from './session.ts'
import { headerError, loadHeader, type Stored } from './store.ts'
import { unlock } from './unlock.ts'
import { SectorCipher } from './xts.ts'

/** What a configuration says of an encrypted device. */
export interface CryptOptions {
  /** The place of the passphrase, which is read when the device is opened. */
  readonly key: SecretSource
  /** Whether trims reach the device below, which then shows what is not in use. */
  readonly discard: boolean
}

/** What is handed in. */
export interface CryptWorld {
  readonly slab: Slab
  readonly clock: Clock
}

/** Milliseconds that a start waits for the key to be derived; longer ones go on by themselves. */
const openMsMax = 20_000
/** Milliseconds before a key or header that cannot be had is tried again, then twice that. */
const retryMsMin = 1000
const retryMsMax = 30_000
/** Codes of what may come right by itself. */
const passing: readonly Code[] = ['UNAVAILABLE', 'BUSY', 'TIMEOUT', 'STALE']

/** An encrypted device that was unlocked. */
interface Opened {
  readonly stored: Stored
  readonly cipher: SectorCipher
  readonly slot: number
}

/**
 * Encrypts what is written to the device below, and decrypts what is read: LUKS, with AES-XTS. The
 * key is derived in a thread when the device below is there for the first time. When that comes
 * back, or is another one, its header is read again before anything is served.
 */
export class CryptDriver extends Layer {
  readonly type = 'crypt'
  private readonly options: CryptOptions
  private readonly slab: Slab
  private readonly clock: Clock
  private readonly medium: Medium
  private readonly deriver: Deriver
  private opened: Opened | null = null
  /** The data path; null while the device takes no requests. */
  private session: CryptSession | null = null
  /** The device below whose header `opened` is; '' while that has to be read again. */
  private seen = ''
  /** Raised when what is being read of the device below may be out of date. */
  private turn = 0
  private unlocking: Promise<void> | null = null
  private retry: Timer | null = null
  private retryMs = retryMsMin
  /** Aborted when the device is closed. */
  private readonly closing = new AbortController()

  constructor(below: Device, options: CryptOptions, { slab, clock }: CryptWorld) {
    super(below)
    this.options = options
    this.slab = slab
    this.clock = clock
    this.medium = new Medium(below)
    this.deriver = new Deriver(clock)
  }

  override async open(host: DriverHost): Promise<void> {
    await super.open(host)
    if (this.unlocking === null) return
    let timer: Timer | null = null
    const patience = new Promise<void>((resolve) => {
      timer = this.clock.timer(openMsMax, resolve)
    })
    await Promise.race([this.unlocking, patience])
    timer!.cancel()
  }

  override async close(): Promise<void> {
    this.closing.abort()
    this.retry?.cancel()
    this.deriver.close()
    await super.close()
    await this.unlocking
    // With them go the keys.
    this.opened = null
    this.session = null
  }

  describe(): Record<string, unknown> {
    const { discard } = this.options
    if (this.opened === null) return { discard }
    const { stored, slot } = this.opened
    const { format, uuid, keyBytes, sectorBytes, payload } = stored.header
    const cipher = `aes-${keyBytes * 4}-xts`
    const shown = { format, uuid, cipher, sectorBytes, payload, keyslot: slot, discard }
    return stored.problems.length === 0 ? shown : { ...shown, problems: stored.problems }
  }

  submit(request: Request): void {
    if (this.session !== null) this.session.submit(request)
    else request.fail(new StorageError('UNAVAILABLE', 'the device is locked', this.path))
  }

  /** The device below has other facts, or another state. */
  protected override update(): void {
    const { facts, usable } = this.below
    if (facts !== null && usable && this.seen === facts.identity) super.update()
    else {
      this.lock()
      if (facts !== null && usable) {
        this.host!.offline('offline', 'its header is being read')
        this.begin()
      } else super.update()
    }
  }

  /** Takes no more requests: what the header says may be out of date. */
  private lock(): void {
    this.turn++
    this.seen = ''
    const { session } = this
    // First: whoever tries again at once must not write by this key to what is below now.
    this.session = null
    session?.stop()
  }

  protected override factsAbove(below: Facts): Facts | string {
    const { payload, size, sectorBytes, uuid } = this.opened!.stored.header
    const facts = seenFromAbove(below)
    const blockSize = Math.max(below.blockSize, sectorBytes)
    const room = roundDown(Math.max(0, below.size - payload), blockSize)
    if (payload % below.blockSize !== 0)
      return `its data begin at byte ${payload}, within a block of ${below.blockSize} bytes below`
    if (size !== null && (size > room || size % blockSize !== 0))
      return `its header says ${size} bytes; the device below has room for ${room}`
    if (room === 0) return 'there is no room for data behind its header'
    return {
      ...facts,
      size: size ?? room,
      blockSize,
      preferredBlockSize: Math.max(facts.preferredBlockSize, blockSize),
      payloadMax: Math.max(
        blockSize,
        roundDown(Math.min(facts.payloadMax, atOnceBytes), blockSize),
      ),
      trim: this.options.discard ? facts.trim : 'none',
      // Zeroes are encrypted like everything else.
      writeZeroes: 'emulated',
      fastZero: false,
      status: this.options.discard ? facts.status : 'emulated',
      identity: digest(`${below.identity}: ${uuid}`),
    }
  }

  private get closed(): boolean {
    return this.closing.signal.aborted
  }

  private begin(): void {
    if (this.unlocking !== null || this.closed) return
    this.retry?.cancel()
    this.unlocking = this.unlockUntilTrue().then((turn) => {
      this.unlocking = null
      // It has changed while that was told, or right after it.
      if (this.turn !== turn) this.begin()
    })
  }

  /** Unlocks the device below; again when that changes meanwhile. Resolves to the last turn. */
  private async unlockUntilTrue(): Promise<number> {
    for (;;) {
      const { turn } = this
      const { facts, usable } = this.below
      if (facts === null || !usable) return turn
      const problem = await this.unlockOnce().catch((error: unknown) => {
        return error instanceof StorageError ? error : new StorageError('IO', String(error))
      })
      if (this.closed) return turn
      if (this.turn !== turn) continue
      if (problem === null) this.unlocked(facts.identity)
      else this.refuse(problem)
      return turn
    }
  }

  /** Resolves to null once `opened` is right, or to why it is not. */
  private async unlockOnce(): Promise<StorageError | null> {
    const { medium, options, clock, deriver, path } = this
    const stored = await loadHeader(medium)
    if (isFault(stored)) return headerError(stored, path)
    if (this.opened !== null && isSame(this.opened.stored.header, stored.header)) {
      this.opened = { ...this.opened, stored }
      return null
    }
    this.opened = null
    const passphrase = await readSecret(options.key, clock, this.closing.signal)
    try {
      const found = await unlock(medium, stored, { passphrase, deriver })
      if (found === null) {
        const name = describeSource(options.key)
        return new StorageError('CONFIG', `the key opens no keyslot (${name})`, path)
      }
      this.opened = { stored, cipher: new SectorCipher(found.key, stored.header), slot: found.slot }
      found.key.fill(0)
      return null
    } finally {
      passphrase.fill(0)
      await deriver.rest()
    }
  }

  private unlocked(identity: string): void {
    const { opened, below, slab, clock, path } = this
    const { cipher, stored } = opened!
    this.session = new CryptSession(below, { cipher, header: stored.header, slab, clock, path })
    this.seen = identity
    this.retryMs = retryMsMin
    super.update()
  }

  private refuse(problem: StorageError): void {
    if (!passing.includes(problem.code)) {
      this.host!.offline('failed', problem.message)
      return
    }
    this.host!.offline('offline', problem.message)
    this.retry = this.clock.timer(this.retryMs, () => {
      this.begin()
    })
    this.retryMs = Math.min(retryMsMax, this.retryMs * 2)
  }
}

/** True if both headers are of the same volume key, and say the same of the data. */
function isSame(one: Header, other: Header): boolean {
  return (
    one.uuid === other.uuid &&
    one.payload === other.payload &&
    one.size === other.size &&
    one.sectorBytes === other.sectorBytes &&
    one.firstSector === other.firstSector &&
    one.digest.value.equals(other.digest.value) &&
    one.digest.salt.equals(other.digest.salt)
  )
}
