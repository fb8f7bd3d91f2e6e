import fs from 'node:fs/promises'
import { assert, StorageError, systemError } from '../../base/errors.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import { Mutex } from '../../base/mutex.ts'
import { roundDown } from '../../base/size.ts'
import { blockBytesMax, type Slab } from '../../base/slab.ts'
import { readText } from '../../base/sysfs.ts'
import type { Driver, DriverHost, Facts } from '../../device/device.ts'
import { digest } from '../../device/facts.ts'
import { Flag, Operation, type Request } from '../../device/request.ts'
import { Allocation, type Source } from './allocation.ts'
import { Forced } from './forced.ts'
import { Holes, whyNoHoles } from './holes.ts'
import { openMedium, sizeNow, type FileOptions, type Medium } from './medium.ts'
import { Syncs } from './syncs.ts'
import { Transfers } from './transfers.ts'

export type { FileOptions } from './medium.ts'

/** The longest pause between two tries to open a file, in multiples of the first. */
const retryFactorMax = 10

/** A regular file or a disk. See docs/devices/file.md for what it promises. */
export class FileDriver implements Driver {
  readonly type = 'file'
  readonly children = []
  private readonly options: FileOptions
  private readonly slab: Slab
  private readonly clock: Clock
  private host: DriverHost | null = null
  private medium: Medium | null = null
  private transfers: Transfers | null = null
  private syncs: Syncs | null = null
  /** Null where no holes can be punched. */
  private holes: Holes | null = null
  private noHoles = ''
  /** Tells where a regular file has data; null for a disk. */
  private allocation: Allocation | null = null
  private readonly forced = new Forced((flush) => {
    this.syncs!.submit(flush)
  })
  private changed = false
  private keepsZeroes = false
  private broken = false
  private closed = false
  /** Bytes of the file or disk at the last look; 0 before. */
  private sizeFound = 0
  private made = false
  /** The most bytes of the file that are served; undefined for all of it. */
  private size: number | undefined
  /** Runs `grow` commands one by one: the next has to see the file as the one before left it. */
  private readonly growing = new Mutex()
  /** The next try to open a file that could not be opened, and the length of the pause. */
  private retry: Timer | null = null
  private retryFactor = 1
  /** The try to open the file that is under way. */
  private attempt: Promise<void> | null = null

  constructor(options: FileOptions, slab: Slab, clock: Clock) {
    this.options = options
    this.slab = slab
    this.clock = clock
  }

  async open(host: DriverHost): Promise<void> {
    this.host = host
    if (this.options.retryMs === undefined) await this.openOnce(host)
    else await this.tryToOpen(host, this.options.retryMs)
  }

  /** Opens the file, or tells the host why it cannot and tries again later. */
  private async tryToOpen(host: DriverHost, retryMs: number): Promise<void> {
    this.attempt = this.openOnce(host)
    try {
      await this.attempt
    } catch (error) {
      if (this.closed) return
      const { code, message } = systemError(error, 'opening', host.path)
      host.offline('offline', message, code === 'CLAIMED' ? code : undefined)
      this.retry = this.clock.timer(retryMs * this.retryFactor, () => {
        void this.tryToOpen(host, retryMs)
      })
      this.retryFactor = Math.min(2 * this.retryFactor, retryFactorMax)
    } finally {
      this.attempt = null
    }
  }

  /** Tries now to open a file that is waited for. Resolves when that has succeeded or failed. */
  async tryNow(): Promise<void> {
    const { host } = this
    const { retryMs } = this.options
    const waits = this.retry !== null && this.medium === null && this.attempt === null
    if (host === null || retryMs === undefined || this.closed || !waits) return
    this.retry!.cancel()
    this.retryFactor = 1
    await this.tryToOpen(host, retryMs)
  }

  /** Removes the file if this driver made it and is closed: for a device that was not used. */
  async unmake(): Promise<void> {
    if (this.closed && this.made) await fs.unlink(this.options.path)
    this.made = false
  }

  private async openOnce(host: DriverHost): Promise<void> {
    const { slab, clock, worsen, grew } = this
    const grownTo = (await this.options.grownTo?.()) ?? 0
    const options = { ...this.options, sizeMax: grownTo }
    const medium = await openMedium(options, host.path, { slab, clock })
    try {
      await this.openHoles(medium)
    } catch (error) {
      // Left open, the file would be locked at the next try; left there, it would pass for older.
      await closeMedium(medium)
      if (medium.made) await fs.unlink(this.options.path)
      throw error
    }
    this.made = medium.made
    this.medium = medium
    this.size = options.size === undefined ? undefined : medium.size
    const { fd } = medium.handle
    const file = {
      fd,
      syncedFd: medium.synced?.fd ?? fd,
      alignment: medium.blockSize,
      device: host.path,
      flush: (request: Request) => {
        this.syncs!.submit(request)
      },
    }
    const access = this.options.direct === true ? 'direct' : 'cached'
    this.transfers = new Transfers(file, { slab, clock, access, worsen })
    const size = medium.regular ? medium.size : 0
    this.syncs = new Syncs({ fd, size, device: host.path }, { worsen, grew })
    if (medium.regular) this.allocation = new Allocation(this.source(fd))
    this.announce()
  }

  async close(): Promise<void> {
    this.closed = true
    this.retry?.cancel()
    // A try under way may still open and lock the file.
    await this.attempt?.catch(() => undefined)
    const { medium } = this
    this.medium = null
    await this.allocation?.close()
    await this.holes?.close()
    if (medium !== null) await closeMedium(medium)
  }

  async look(): Promise<void> {
    const { medium } = this
    if (medium === null || this.broken) return
    const bytes = await sizeNow(medium, this.options.path).catch(() => null)
    if (bytes === null || this.medium === null) return
    this.sizeFound = bytes
    this.syncs!.noticed(bytes)
    this.grew(bytes)
  }

  /**
   * Serves `bytes` from now on, or all that is there if it is null. A file that has fewer is
   * enlarged, durably, after `agreed` was called with the new size. Rejects with CONFIG if the file
   * cannot grow so. `flush` has to flush through the device, so that its clients hear of a failure.
   */
  grow(
    bytes: number | null,
    agreed: (bytes: number) => Promise<void>,
    flush: () => Promise<void>,
  ): Promise<void> {
    return this.growing.run(() => this.growAlone(bytes, agreed, flush))
  }

  private async growAlone(
    bytes: number | null,
    agreed: (bytes: number) => Promise<void>,
    flush: () => Promise<void>,
  ): Promise<void> {
    const { medium } = this
    const path = this.host?.path ?? ''
    const refuse = (what: string): StorageError => new StorageError('CONFIG', what, path)
    if (medium === null || this.broken) throw refuse('it is not open')
    if (medium.synced === null) throw refuse('it is read-only')
    const { handle, regular, blockSize } = medium
    try {
      const there = await sizeNow(medium, this.options.path)
      const wanted = bytes ?? roundDown(there, blockSize)
      if (wanted <= medium.size)
        throw refuse(`it has ${medium.size} bytes, and no more are there: say a larger size`)
      if (wanted % blockSize !== 0) throw refuse(`its blocks have ${blockSize} bytes`)
      if (wanted > there && !regular) throw refuse(`the disk has ${there} bytes: enlarge it first`)
      await agreed(wanted)
      // The size may have changed during `agreed`, and truncating must never make the file smaller.
      if (wanted > (await sizeNow(medium, this.options.path))) await handle.truncate(wanted)
      await flush()
      if (this.size !== undefined) this.size = wanted
      await this.look()
    } catch (cause) {
      throw systemError(cause, 'enlarging the file', path)
    }
  }

  submit(request: Request): void {
    if ((request.flags & Flag.fua) !== 0) request.push(this.forced)
    switch (request.operation) {
      case Operation.write:
        this.changed = true
        this.transfers!.submit(request)
        break
      case Operation.read:
        this.transfers!.submit(request)
        break
      case Operation.flush:
        this.syncs!.submit(request)
        break
      case Operation.trim:
      case Operation.writeZeroes:
        this.changed = true
        if ((request.flags & Flag.noHole) !== 0) this.keepsZeroes = true
        this.holes!.submit(request)
        break
      case Operation.status:
        assert(this.allocation !== null, 'a disk does not do this by itself')
        this.allocation.submit(request)
    }
  }

  /** Keeps other programs of this machine from a disk while a head claims it. */
  async claim(fence: number): Promise<void> {
    const guard = this.medium?.guard ?? null
    if (fence === 0) await guard?.drop()
    else await guard?.take()
  }

  describe(): Record<string, unknown> {
    const { path, direct = false } = this.options
    const { medium, noHoles } = this
    const bytesUnused = this.sizeFound - (medium?.size ?? Infinity)
    const noMap = this.allocation?.refusal ?? ''
    return {
      path,
      direct,
      ...(medium?.writeProtected === true ? { writeProtected: true } : {}),
      ...(noHoles === '' ? {} : { noHoles }),
      ...(bytesUnused > 0 ? { bytesUnused } : {}),
      ...(noMap === '' ? {} : { noMap }),
      ...this.transfers?.counts,
      ...this.holes?.counts,
    }
  }

  /** The times and size of a file; the kernel's counts of writes to a disk. */
  async stamp(): Promise<string> {
    const { handle, regular, sysfs, bootId } = this.medium!
    try {
      const { mtimeNs, ctimeNs, size } = await handle.stat({ bigint: true })
      if (regular) return `${mtimeNs}:${ctimeNs}:${size}`
    } catch (cause) {
      throw systemError(cause, 'examining the file', this.host!.path)
    }
    // Fields of the kernel's Documentation/block/stat.rst: 5 and 7 are writes and their sectors.
    return `${bootId}:${countsOfWrites(await readText(`${sysfs}/stat`))}`
  }

  private source(fd: number): Source {
    return {
      fd,
      changed: () => this.changed,
      keepsZeroes: () => this.keepsZeroes,
      size: () => this.medium!.size,
    }
  }

  private async openHoles(medium: Medium): Promise<void> {
    const { handle, regular, size, synced } = medium
    // A read-only file gets no holes, and a disk would need another call.
    if (!regular || synced === null) return
    const why = await whyNoHoles(handle.fd, size)
    this.noHoles = why ?? ''
    if (why !== null) return
    const { clock } = this
    // The facts that writing zeroes needs stay true while the file is open.
    const file = { path: this.host!.path, driver: this, facts: this.facts(medium), clock }
    this.holes = new Holes(file, handle.fd, this.noMoreHoles)
  }

  private facts(medium: Medium): Facts {
    const readOnly = medium.synced === null
    const holes = this.holes !== null && this.holes.refusal === null
    return {
      size: medium.size,
      blockSize: medium.blockSize,
      preferredBlockSize: medium.preferredBlockSize,
      payloadMax: blockBytesMax,
      readOnly,
      flush: 'native',
      fua: 'native',
      trim: holes ? 'native' : 'none',
      writeZeroes: holes ? 'native' : 'emulated',
      fastZero: holes,
      status: medium.regular ? 'native' : 'emulated',
      rotational: medium.rotational,
      identity: medium.identity,
      bootId: medium.bootId,
    }
  }

  private readonly worsen = (word: 'degraded' | 'failed', error: StorageError): void => {
    if (this.broken) return
    this.broken = word === 'failed'
    if (this.broken) {
      this.host!.offline('failed', error.message)
      return
    }
    // The data stays lost when the file is opened again: a new boot id tells the clients.
    const medium = this.medium!
    this.medium = { ...medium, bootId: digest(`${medium.bootId}: lost ${this.clock.wall()}`) }
    this.announce()
  }

  private readonly noMoreHoles = (): void => {
    this.noHoles = this.holes!.refusal!
    if (!this.broken) this.announce()
  }

  /** Serves more of a file that grew while it was open, up to the configured size. */
  private readonly grew = (bytes: number): void => {
    const medium = this.medium!
    const size = roundDown(Math.min(bytes, this.size ?? Infinity), medium.blockSize)
    if (this.broken || size <= medium.size || !Number.isSafeInteger(size)) return
    this.medium = { ...medium, size }
    this.announce()
  }

  /** Tells the host the state: degraded from a failed flush on, until the file is opened again. */
  private announce(): void {
    const medium = this.medium!
    const lost = this.syncs!.lost?.message
    const reason = medium.writeProtected ? 'the disk is write-protected: it can only be read' : ''
    const word = lost === undefined ? 'online' : 'degraded'
    this.host!.online(this.facts(medium), word, lost ?? reason)
  }
}

async function closeMedium({ guard, synced, handle }: Medium): Promise<void> {
  await guard?.close()
  await synced?.close()
  await handle.close()
}

let unknownCounts = 0

/** Makes a stamp of the kernel's counts of a disk; without counts, one that is new each time. */
export function countsOfWrites(text: string): string {
  const counts = text.split(/\s+/)
  return counts.length > 6 ? `${counts[4]}:${counts[6]}` : `unknown ${unknownCounts++}`
}
