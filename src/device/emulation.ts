import { StorageError } from '../base/errors.ts'
import { roundDown } from '../base/size.ts'
import { Slab } from '../base/slab.ts'
import type { Device, Driver, Facts } from './device.ts'
import { Flag, Operation, Request, type Completer } from './request.ts'
import { beginSplit, endSplit, splitOff } from './split.ts'

/**
 * What a driver cannot do by itself, done by other means, for every driver alike. All of this runs
 * below the device's checks and accounting, above its driver.
 */

/** Force unit access: the operation without it, then a flush. */
export function emulateFua(device: Device, request: Request, facts: Facts): void {
  const plain = Request.take(
    request.operation,
    request.offset,
    request.length,
    request.flags & ~Flag.fua,
    flushAfter,
  )
  plain.share(request)
  plain.context = { device, request, bootId: '' } satisfies FuaContext
  device.carryOut(plain, facts)
}

/** A read or write longer than the driver takes: several, side by side. */
export function splitLarge(device: Device, request: Request, facts: Facts): void {
  beginSplit(request)
  for (let from = 0; from < request.length; from += facts.payloadMax) {
    const length = Math.min(facts.payloadMax, request.length - from)
    device.driver.submit(splitOff(request, from, length, request.offset + from))
  }
  endSplit(request)
}

const zeroBytes = new Slab().take(256 * 1024).bytes.fill(0)
/** Zero writes under way for one writeZeroes: enough to keep a disk busy, too few to flood it. */
const zeroWritesMax = 8

type Submitter = Pick<Driver, 'submit'>

/** Zeroes by writing them, a few writes at a time: the range may be 4 GiB long. */
export function emulateWriteZeroes(driver: Submitter, request: Request, facts: Facts): void {
  new ZeroWriter(driver, request, facts).fill()
}

class ZeroWriter implements Completer {
  private readonly driver: Submitter
  private readonly request: Request
  private readonly step: number
  private readonly flags: number
  private from = 0
  private pending = 0
  private filling = false

  constructor(driver: Submitter, request: Request, facts: Facts) {
    this.driver = driver
    this.request = request
    // Only a driver that does it by itself sees the flag here: see `emulateFua`.
    this.flags = request.flags & Flag.fua
    this.step = roundDown(Math.min(zeroBytes.length, facts.payloadMax), facts.blockSize)
  }

  fill(): void {
    // A write that completes at once must not start the next one a level deeper.
    if (this.filling) return
    this.filling = true
    const { request } = this
    while (this.pending < zeroWritesMax && this.from < request.length && request.error === null) {
      const length = Math.min(this.step, request.length - this.from)
      const offset = request.offset + this.from
      const write = Request.take(Operation.write, offset, length, this.flags, this)
      write.append(length === zeroBytes.length ? zeroBytes : zeroBytes.subarray(0, length), null)
      this.from += length
      this.pending++
      this.driver.submit(write)
    }
    this.filling = false
    if (this.pending > 0) return
    if (request.error === null) request.complete()
    else request.fail(request.error)
  }

  completed(write: Request): void {
    this.request.error ??= write.error
    write.release()
    this.pending--
    this.fill()
  }
}

interface FuaContext {
  readonly device: Device
  readonly request: Request
  /** The life of the device's cache that took the bytes. */
  bootId: string
}

const flushAfter: Completer = {
  completed(plain) {
    const context = plain.context as FuaContext
    const { device, request } = context
    const { error } = plain
    plain.release()
    if (error !== null) {
      request.fail(error)
      return
    }
    context.bootId = device.facts!.bootId
    const flush = Request.take(Operation.flush, 0, 0, 0, finish)
    flush.context = context
    device.driver.submit(flush)
  },
}

const finish: Completer = {
  completed(flush) {
    const { device, request, bootId } = flush.context as FuaContext
    const { error } = flush
    flush.release()
    if (error !== null) request.fail(error)
    else if (device.facts!.bootId !== bootId)
      request.fail(new StorageError('STALE', 'the device lost it before its flush', device.path))
    else request.complete()
  },
}
