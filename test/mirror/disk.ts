import { StorageError } from '../../src/base/errors.ts'
import type { Claimed, Driver, DriverHost, Facts } from '../../src/device/device.ts'
import { extentHole, extentZero } from '../../src/device/extents.ts'
import { Flag, Operation, type Request } from '../../src/device/request.ts'

/** Each byte is like the one before it, and the first is 0. One by one, 40 MiB take seconds. */
function isZero(bytes: Buffer): boolean {
  return bytes.length === 0 || (bytes[0] === 0 && bytes.subarray(1).equals(bytes.subarray(0, -1)))
}

let identities = 0

function identity(): string {
  return (++identities).toString(16).padStart(32, '0')
}

/**
 * A disk that does as it is told: holds, fails, goes away, loses what was not flushed. It outlives
 * the heads that use it; each opens a `DiskDriver` of its own.
 */
export class Disk {
  size: number
  /** What reads see, and what is left after a power cut. */
  cached: Buffer
  stable: Buffer
  identity = identity()
  bootId = identity()
  /** Decides the fate of a request; null lets it pass. */
  fault: (request: Request) => StorageError | null = () => null
  /** Decides which requests are kept until `letGo`. */
  hold: (request: Request) => boolean = () => false
  /** Every request that was carried out, as `operation offset+length`. */
  readonly log: { operation: Operation; offset: number; length: number; fua: boolean }[] = []
  /** Whether its block status knows what reads as zeroes; otherwise all is data to it. */
  tellsZeroes = true
  epoch = 0
  /** With what it was claimed last, given up or not. */
  last = 0
  /** Every claim that was made, and what happens before one is. */
  readonly claims: number[] = []
  onClaim: () => Promise<void> = () => Promise.resolve()
  /** What happens to the answer of one that was carried out. */
  onClaimed: () => Promise<void> = () => Promise.resolve()
  stampCount = 0
  readonly drivers = new Set<DiskDriver>()
  /** How often its target restarted; null where it has none. */
  restarts: number | null = null
  /** What it says of itself besides the usual. */
  said: Partial<Facts> = {}

  constructor(size: number) {
    this.size = size
    this.cached = Buffer.alloc(size)
    this.stable = Buffer.alloc(size)
  }

  grow(size: number): void {
    const grown = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(size - this.size)])
    this.cached = grown(this.cached)
    this.stable = grown(this.stable)
    this.size = size
    for (const driver of this.drivers) driver.announce()
  }

  shrink(size: number): void {
    this.cached = Buffer.from(this.cached.subarray(0, size))
    this.stable = Buffer.from(this.stable.subarray(0, size))
    this.size = size
    this.comeBack()
  }

  /** The link breaks: what is under way fails. The disk itself goes on. */
  goAway(): void {
    for (const driver of this.drivers) driver.goAway()
  }

  comeBack(): void {
    for (const driver of this.drivers) driver.announce()
  }

  /** Loses what was not flushed. Whoever uses it sees it go and must be told to come back. */
  powerCut(): void {
    this.goAway()
    this.cached = Buffer.from(this.stable)
    this.bootId = identity()
  }

  /** The same so quickly that nobody saw it go. */
  restart(): void {
    this.cached = Buffer.from(this.stable)
    this.bootId = identity()
    this.comeBack()
  }

  /** Carries out what was held, or that part of it that `which` says. */
  letGo(which: (request: Request) => boolean = () => true): void {
    const { hold } = this
    this.hold = (request) => !which(request) && hold(request)
    for (const driver of this.drivers) driver.letGo(which)
  }

  /** Says something else of itself from now on. */
  say(facts: Partial<Facts>): void {
    this.said = { ...this.said, ...facts }
    this.comeBack()
  }

  /** The next flush fails, and as a kernel does after that, what was not written is dropped. */
  dropAtFlush(dropped: () => void = () => undefined): void {
    this.failOnce(({ operation }) => operation === Operation.flush, dropped)
  }

  /** The next request of the kind fails, and takes with it what was not written. */
  failOnce(which: (request: Request) => boolean, dropped: () => void = () => undefined): void {
    this.fault = (request) => {
      if (!which(request)) return null
      this.fault = () => null
      this.cached = Buffer.from(this.stable)
      dropped()
      return new StorageError('IO', 'flush failed')
    }
  }

  bytesWritten(below: number): number {
    let bytes = 0
    for (const { operation, offset, length } of this.log)
      if (operation === Operation.write && offset < below) bytes += length
    return bytes
  }
}

export class DiskDriver implements Driver {
  readonly type = 'disk'
  readonly children = []
  private readonly disk: Disk
  private host: DriverHost | null = null
  private held: Request[] = []
  private away: boolean

  get restarts(): number | null {
    return this.disk.restarts
  }

  constructor(disk: Disk, away = false) {
    this.disk = disk
    this.away = away
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    this.disk.drivers.add(this)
    if (this.away) host.offline('offline', 'not there')
    else this.announce()
    return Promise.resolve()
  }

  close(): Promise<void> {
    this.disk.drivers.delete(this)
    return Promise.resolve()
  }

  /** The head dies: nothing of it reaches the disk any more. */
  sever(): void {
    this.disk.drivers.delete(this)
    this.away = true
    this.host = null
  }

  announce(): void {
    this.away = false
    const { size, identity, bootId } = this.disk
    this.host!.online({
      size,
      blockSize: 512,
      preferredBlockSize: 4096,
      payloadMax: 1 << 20,
      readOnly: false,
      flush: 'native',
      fua: 'native',
      trim: 'native',
      writeZeroes: 'native',
      fastZero: true,
      status: 'native',
      rotational: false,
      identity,
      bootId,
      ...this.disk.said,
    })
  }

  /** As a remote does that is told of a newer head. */
  fence(): void {
    this.host!.offline('failed', 'claimed with more', 'FENCED')
  }

  goAway(): void {
    this.away = true
    for (const request of this.held.splice(0)) this.fail(request)
    this.host!.offline('offline', 'the link is down')
  }

  letGo(which: (request: Request) => boolean): void {
    const freed = this.held.filter(which)
    this.held = this.held.filter((request) => !which(request))
    for (const request of freed) this.later(request)
  }

  describe(): Record<string, unknown> {
    return {}
  }

  stamp(): Promise<string> {
    return Promise.resolve(`${this.disk.stampCount}`)
  }

  async claim(epoch: number): Promise<void> {
    const { disk } = this
    await disk.onClaim()
    disk.claims.push(epoch)
    if (epoch !== 0 && epoch < Math.max(disk.epoch, disk.last))
      throw new StorageError('FENCED', 'a higher epoch has claimed')
    disk.epoch = epoch
    disk.last = Math.max(disk.last, epoch)
    await disk.onClaimed()
  }

  claimed(): Promise<Claimed> {
    const { epoch, last } = this.disk
    return Promise.resolve({ held: epoch, givenUp: epoch > 0 ? 0 : last })
  }

  submit(request: Request): void {
    if (this.disk.hold(request)) this.held.push(request)
    else this.later(request)
  }

  private later(request: Request): void {
    setImmediate(() => {
      if (this.host === null) return
      if (this.away) this.fail(request)
      else {
        const error = this.disk.fault(request)
        if (error !== null) request.fail(error)
        else this.carryOut(request)
      }
    })
  }

  private fail(request: Request): void {
    request.fail(new StorageError('UNAVAILABLE', 'the link is down'))
  }

  private carryOut(request: Request): void {
    const { disk } = this
    const { operation, offset, length } = request
    const fua = (request.flags & Flag.fua) !== 0
    disk.log.push({ operation, offset, length, fua })
    if (operation === Operation.read)
      request.append(Buffer.from(disk.cached.subarray(offset, offset + length)), null)
    else if (operation === Operation.write) request.copyTo(disk.cached.subarray(offset))
    else if (operation === Operation.flush) disk.cached.copy(disk.stable)
    else if (operation === Operation.status) {
      const zero = isZero(disk.cached.subarray(offset, offset + length))
      request.extents.add(length, disk.tellsZeroes && zero ? extentHole | extentZero : 0)
    } else disk.cached.fill(0, offset, offset + length)
    if (fua) disk.cached.copy(disk.stable, offset, offset, offset + length)
    request.complete()
  }
}
