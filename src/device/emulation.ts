import type { Clock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { longLoops, type LongLoop } from '../base/long-loops.ts'
import { roundDown } from '../base/size.ts'
import { Slab } from '../base/slab.ts'
import type { Facts } from './facts.ts'
import { mayHaveLost } from './life.ts'
import { Flag, Operation, Request, type Completer } from './request.ts'
import { beginSplit, endSplit, splitOff } from './split.ts'

/**
 * Does by other means what a driver cannot do by itself, for all drivers alike. All of this runs
 * below the device's checks and accounting, above its driver.
 */

/** A place to write zeroes to: a `Device`, or a driver by itself. */
export interface ZeroTarget {
  readonly path: string
  readonly driver: { submit(request: Request): void }
  readonly facts: Facts | null
  readonly clock: Clock
}

/** A `Device`, as it is seen from below its checks. */
interface Emulated extends ZeroTarget {
  carryOut(request: Request, facts: Facts): void
  flushFailed(error: StorageError): void
}

/** Emulates forced unit access: carries out the change without the flag, then flushes. */
export function emulateFua(device: Emulated, request: Request, facts: Facts): void {
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

/** Splits a read or write that is longer than the driver takes into several, side by side. */
export function splitLarge(device: Emulated, request: Request, facts: Facts): void {
  beginSplit(request, device)
  for (let from = 0; from < request.length; from += facts.payloadMax) {
    const length = Math.min(facts.payloadMax, request.length - from)
    device.driver.submit(splitOff(request, from, length, request.offset + from))
  }
  endSplit(request)
}

const zeroBytes = new Slab().take(256 * 1024).bytes.fill(0)
/** Zero writes under way for one writeZeroes: enough to keep a disk busy, too few to flood it. */
const zeroWritesMax = 8

/**
 * Zeroes by writing zeroes, a few writes at a time: the range may be 4 GiB long. Where writes
 * complete at once, other work has its turn in between.
 */
export function emulateWriteZeroes(target: ZeroTarget, request: Request, facts: Facts): void {
  const writer = new ZeroWriter(target, request, facts)
  if (request.length <= zeroWritesMax * writer.step) writer.goOn()
  else writer.giveWay()
}

class ZeroWriter implements Completer, LongLoop {
  /** Bytes of each write. */
  readonly step: number
  private readonly target: ZeroTarget
  private readonly request: Request
  private readonly flags: number
  /** The device's boot id when the first write ended; '' before. */
  private bootId = ''
  private from = 0
  private pending = 0
  /** True while `goOn` runs, or will in a later turn of the loop. */
  private goesOn = false

  constructor(target: ZeroTarget, request: Request, facts: Facts) {
    this.target = target
    this.request = request
    // The flag comes this far only if the driver can do it: see `emulateFua`.
    this.flags = request.flags & Flag.fua
    this.step = roundDown(Math.min(zeroBytes.length, facts.payloadMax), facts.blockSize)
  }

  giveWay(): void {
    this.goesOn = true
    longLoops(this.target.clock).add(this)
  }

  goOn(): void {
    const { request } = this
    // Set first: a write that completes at once must not start the next one a level deeper.
    this.goesOn = true
    for (let count = 0; count < zeroWritesMax && this.wantsMore(); count++) this.writeNext()
    this.goesOn = false
    if (this.wantsMore()) this.giveWay()
    else if (this.pending > 0) return
    else if (request.error === null) request.complete()
    else request.fail(request.error)
  }

  completed(write: Request): void {
    this.request.error ??= write.error ?? this.lost()
    write.release()
    this.pending--
    if (!this.goesOn) this.goOn()
  }

  /** A loss of the cache between two writes fails neither of them, so compare the boot ids. */
  private lost(): StorageError | null {
    const { facts, path } = this.target
    const { bootId } = facts!
    if (this.bootId === '') this.bootId = bootId
    if (this.bootId === bootId) return null
    return new StorageError('STALE', 'the device lost the first of the zeroes', path)
  }

  private wantsMore(): boolean {
    const { error, length } = this.request
    return error === null && this.from < length && this.pending < zeroWritesMax
  }

  private writeNext(): void {
    const { request } = this
    const length = Math.min(this.step, request.length - this.from)
    const offset = request.offset + this.from
    const write = Request.take(Operation.write, offset, length, this.flags, this)
    write.append(length === zeroBytes.length ? zeroBytes : zeroBytes.subarray(0, length), null)
    this.from += length
    this.pending++
    this.target.driver.submit(write)
  }
}

interface FuaContext {
  readonly device: Emulated
  readonly request: Request
  /** The device's boot id when it had taken the bytes. */
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
    if (error !== null) {
      if (mayHaveLost(error)) device.flushFailed(error)
      request.fail(error)
    } else if (device.facts!.bootId !== bootId)
      request.fail(
        new StorageError('STALE', 'the device lost the change before its flush', device.path),
      )
    else request.complete()
  },
}
