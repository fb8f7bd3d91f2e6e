import { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB, roundUp } from '../../src/base/size.ts'
import type { Driver, DriverHost, Facts } from '../../src/device/device.ts'
import { extentZero } from '../../src/device/extents.ts'
import { Flag, Operation, type Request } from '../../src/device/request.ts'
import type { Process } from './machine.ts'
import type { Medium, Underway } from './medium.ts'
import { PoisonLease } from './slab.ts'

/** What a disk tells the allocation of. */
const blockBytes = 4 * KiB
const zeroes = Buffer.alloc(blockBytes)

/** A medium as a leaf of one process's tree: what a file is, in simulated time. */
export class DiskDriver implements Driver {
  readonly type = 'disk'
  readonly children = []
  private readonly medium: Medium
  private readonly process: Process
  private watcher: (() => void) | null = null

  constructor(medium: Medium, process: Process) {
    this.medium = medium
    this.process = process
  }

  open(host: DriverHost): Promise<void> {
    const announce = (): void => {
      host.online(this.facts())
    }
    announce()
    this.watcher = () => {
      this.process.machine.clock.after(0, this.process, announce)
    }
    this.medium.watchers.add(this.watcher)
    return Promise.resolve()
  }

  close(): Promise<void> {
    if (this.watcher !== null) this.medium.watchers.delete(this.watcher)
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  private facts(): Facts {
    const { medium } = this
    return {
      size: medium.size,
      blockSize: 1,
      preferredBlockSize: blockBytes,
      payloadMax: 1 * MiB,
      readOnly: false,
      flush: 'native',
      fua: medium.forces ? 'native' : 'emulated',
      trim: 'native',
      writeZeroes: 'native',
      fastZero: true,
      status: 'native',
      rotational: false,
      identity: medium.identity,
      bootId: medium.machine.bootId,
    }
  }

  stamp(): Promise<string> {
    return Promise.resolve(`${this.medium.identity}:${this.medium.changes}`)
  }

  claim(epoch: number): Promise<void> {
    if (epoch !== 0 && epoch < this.medium.epoch)
      return Promise.reject(new StorageError('FENCED', `epoch ${epoch} < ${this.medium.epoch}`))
    this.medium.epoch = epoch
    this.medium.claimed()
    return Promise.resolve()
  }

  submit(request: Request): void {
    const { medium, process } = this
    if (!process.alive) return
    if (medium.hung) {
      medium.hanging.push(() => process.alive && this.submit(request))
      return
    }
    const clock = process.machine.clock
    const { effect, total } = medium.duration()
    const order = medium.order
    const write = this.underway(request)
    const { operation, offset } = request
    medium.ambush?.(operation, offset, request.length)
    medium.watched(operation, offset, false)
    medium.busy++
    process.owed++
    // The disk acts on its own, also for a frozen process; only the answer needs the process.
    clock.after(effect, null, () => {
      if (medium.busy > 0) medium.busy--
      if (!process.alive) return
      if (write !== null) medium.underway.delete(write)
      const error = this.act(request, order)
      medium.watched(operation, offset, true)
      clock.after(total - effect, process, () => {
        process.owed--
        if (error === null) {
          request.complete()
          return
        }
        // Not before it is told: what is read in between could be noticed by nobody.
        if (operation === Operation.flush) medium.failFlush(order)
        else if (this.isForced(request) && error.code === 'IO') medium.distrust()
        request.fail(error)
      })
    })
  }

  /** A read is never forced, nor what this disk does not force by itself. */
  private isForced({ flags }: Request): boolean {
    return this.medium.forces && (flags & Flag.fua) !== 0
  }

  private tellExtents(request: Request): void {
    const end = request.offset + request.length
    for (let at = request.offset; at < end;) {
      const next = Math.min(end, roundUp(at + 1, blockBytes))
      const zero = zeroes.compare(this.medium.content, at, next, 0, next - at) === 0
      if (!request.extents.add(next - at, zero ? extentZero : 0)) return
      at = next
    }
  }

  private underway(request: Request): Underway | null {
    if (request.operation !== Operation.write && request.operation !== Operation.writeZeroes)
      return null
    const write = { process: this.process, request }
    this.medium.underway.add(write)
    return write
  }

  private act(request: Request, order: number): StorageError | null {
    const { medium } = this
    const { operation, offset, length } = request
    switch (operation) {
      case Operation.read: {
        const error = medium.fault(offset, length, 'reads')
        if (error !== null) return error
        const lease = new PoisonLease(Buffer.from(medium.content.subarray(offset, offset + length)))
        request.append(lease.bytes, lease)
        return null
      }
      case Operation.write:
      case Operation.writeZeroes:
      case Operation.trim: {
        const error = medium.fault(offset, length, 'writes')
        if (error !== null) return error
        const forced = this.isForced(request)
        if (forced && medium.failsForced())
          return new StorageError('IO', `a forced write of ${medium.name} fails`)
        // Read now, not when submitted: lent bytes must not have changed until here.
        if (operation === Operation.write) medium.writeFrom(request, forced)
        else medium.zero(offset, length, forced)
        return null
      }
      case Operation.flush:
        if (medium.flushFails) return new StorageError('IO', `flush of ${medium.name} fails`)
        medium.flush(order)
        return null
      case Operation.status:
        this.tellExtents(request)
        return null
    }
  }
}
