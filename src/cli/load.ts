import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Device } from '../device/device.ts'
import { Operation, Request, type Completer } from '../device/request.ts'

/** The operations that a load repeats on a device. */
export interface Work {
  /** Percent of the operations that read; the others write. */
  readonly reads: number
  /** True for blocks one after the other, from the start again after the end; else at random. */
  readonly sequential: boolean
  /** Bytes of each operation. */
  readonly blockSize: number
  /** Operations in flight. */
  readonly depth: number
}

/** The figures of a load. */
export interface LoadResult {
  readonly operations: number
  readonly bytes: number
  readonly seconds: number
  /** Nanoseconds from submitting to completion. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly p999: number }
}

/**
 * Keeps `depth` requests in flight on a device: each completion submits the next. Writes arbitrary
 * bytes, the same in every block.
 */
export class Load implements Completer {
  private readonly device: Device
  private readonly work: Work
  private readonly clock: Clock
  private readonly random: Random
  private readonly payload: Buffer
  private readonly blocks: number
  private readonly histogram: RecordableHistogram = createHistogram()
  /** The time when each slot (a request's `tag`) was submitted, in milliseconds. */
  private readonly started: Float64Array
  private readonly free: number[] = []
  private next = 0
  private completions = 0
  private began = 0
  private deadline = 0
  private pumping = false
  private begun = false
  private failure: Error | null = null
  private settle: ((error: Error | null) => void) | null = null

  /** The device must be open and have at least one block. */
  constructor(device: Device, work: Work, clock: Clock, random: Random) {
    this.device = device
    this.work = work
    this.clock = clock
    this.random = random
    this.payload = random.bytes(work.reads < 100 ? work.blockSize : 1)
    this.blocks = Math.floor((device.facts?.size ?? 0) / work.blockSize)
    this.started = new Float64Array(work.depth)
    for (let slot = 0; slot < work.depth; slot++) this.free.push(slot)
  }

  /**
   * Runs for `milliseconds`, and for at least one operation, because a busy machine may let this
   * process wait for longer than that. Rejects with the first error, after all have completed.
   */
  run(milliseconds: number): Promise<LoadResult> {
    this.began = this.clock.now()
    this.deadline = this.began + milliseconds
    return new Promise((resolve, reject) => {
      this.settle = (error) => {
        if (error === null) resolve(this.result())
        else reject(error)
      }
      this.pump()
    })
  }

  completed(request: Request): void {
    const now = this.clock.now()
    const slot = request.tag
    const { error } = request
    request.release()
    this.free.push(slot)
    if (error === null) {
      this.completions++
      this.histogram.record(Math.max(1, Math.round((now - this.started[slot]!) * 1e6)))
    } else this.failure ??= error
    this.pump()
  }

  private get over(): boolean {
    return this.failure !== null || (this.begun && this.clock.now() >= this.deadline)
  }

  /** Submits while slots are free. A device that completes at once calls this again. */
  private pump(): void {
    if (this.pumping) return
    this.pumping = true
    while (this.free.length > 0 && !this.over) this.submit(this.free.pop()!)
    this.pumping = false
    if (this.free.length < this.work.depth || !this.over) return
    const { settle } = this
    this.settle = null
    settle?.(this.failure)
  }

  private submit(slot: number): void {
    this.begun = true
    const { blockSize, sequential, reads } = this.work
    const block = sequential ? this.next++ % this.blocks : this.random.fraction() * this.blocks
    const operation =
      reads === 100 || (reads > 0 && this.random.fraction() * 100 < reads)
        ? Operation.read
        : Operation.write
    const offset = Math.floor(block) * blockSize
    const request = Request.take(operation, offset, blockSize, 0, this)
    request.tag = slot
    if (operation === Operation.write) request.append(this.payload, null)
    this.started[slot] = this.clock.now()
    this.device.submit(request)
  }

  private result(): LoadResult {
    const { histogram, completions } = this
    return {
      operations: completions,
      bytes: completions * this.work.blockSize,
      seconds: (this.clock.now() - this.began) / 1000,
      latency: {
        p50: histogram.percentile(50),
        p99: histogram.percentile(99),
        p999: histogram.percentile(99.9),
      },
    }
  }
}
