import type { StorageError } from '../../src/base/errors.ts'
import type { Device } from '../../src/device/device.ts'
import { LossReport } from '../../src/device/loss-report.ts'
import { Flag, Operation, operationNames } from '../../src/device/request.ts'
import { Request, type Completer } from '../../src/device/request.ts'
import type { Checker, Read, Write } from './checker.ts'
import { Violation } from './checker.ts'
import type { Dice } from './dice.ts'
import type { Process } from './machine.ts'
import { sectorBytes } from './medium.ts'
import { PoisonLease } from './slab.ts'
import type { Trace } from './trace.ts'

/** What clients do, in parts of the whole, and how. */
export interface Workload {
  readonly read: number
  readonly write: number
  readonly fua: number
  readonly flush: number
  readonly zero: number
  readonly trim: number
  /** Requests of one client in flight. */
  readonly depth: number
  /** Milliseconds between requests, on average. */
  readonly pause: number
  /** Sectors of the longest request. */
  readonly sectorsMax: number
  /** Sectors that all clients fight for; 0 for none. */
  readonly hot: number
}

export interface ClientHost {
  readonly checker: Checker
  readonly trace: Trace
  /** Ends the seed. */
  violated(problem: Error): void
  /** A flush was acknowledged, or failed. */
  flushed(client: Client, start: number, error: Error | null): void
}

interface Job {
  readonly text: string
  readonly write: Write | null
  readonly read: Read | null
  readonly flushStart: number
  readonly stable: boolean
  readonly since: number
}

/** What one client does at most: enough, however long the volume takes to recover. */
const operationsMax = 2000

/** Where answers are looked at, one after the other. */
let answer = Buffer.alloc(0)

/** Errors that no fault explains: they would be our own. */
const unexpected = new Set([
  'INVALID',
  'RANGE',
  'READ_ONLY',
  'TOO_LARGE',
  'UNSUPPORTED',
  'PROTOCOL',
])

/** A program that uses a volume, and tells the checker what it asked for and what it got. */
export class Client implements Completer {
  readonly name: string
  /** What it reads says nothing: its head went its own way. */
  blind = false
  /** Says nothing of what goes well. */
  silent = false
  operations = 0
  errors = 0
  lastError: StorageError | null = null
  private readonly host: ClientHost
  private readonly process: Process
  private readonly device: Device
  private readonly workload: Workload
  private readonly losses: LossReport
  private readonly dice: Dice
  private readonly jobs = new Map<Request, Job>()
  private running = true
  /** How many want it to be quiet. */
  private pauses = 0

  constructor(
    name: string,
    host: ClientHost,
    process: Process,
    device: Device,
    workload: Workload,
  ) {
    this.name = name
    this.host = host
    this.process = process
    this.device = device
    this.workload = workload
    this.losses = new LossReport(device)
    this.dice = process.machine.dice.fork()
  }

  get inFlight(): number {
    return this.jobs.size
  }

  /** Whether it asks for nothing new, until everybody who wanted that has let it go on. */
  get paused(): boolean {
    return this.pauses > 0
  }

  pause(): void {
    this.pauses++
  }

  resume(): void {
    this.pauses--
  }

  /** Whether it lives, and what it asks is answered. */
  get serves(): boolean {
    return this.process.alive && this.running
  }

  start(): void {
    const { clock } = this.process.machine
    clock.after(this.dice.skewed(0, this.workload.pause * 4), this.process, () => {
      if (!this.running) return
      if (this.jobs.size < this.workload.depth && !this.paused) this.next()
      if (this.operations > operationsMax) return
      this.start()
    })
  }

  stop(): void {
    this.running = false
  }

  /** The process is dead: nobody will ever learn what became of what was in flight. */
  abandon(): void {
    this.running = false
    for (const job of this.jobs.values()) this.end(job, null, new Error('abandoned'))
    this.jobs.clear()
  }

  /** Requests that have been waiting for longer than `ms`. */
  stuck(ms: number): string[] {
    const now = this.process.machine.clock.time
    return [...this.jobs.values()].filter((job) => now - job.since > ms).map((job) => job.text)
  }

  read(first: number, sectors: number): void {
    const { checker } = this.host
    this.submit(Operation.read, first, sectors, 0, { read: checker.beginRead(first, sectors) })
  }

  write(first: number, sectors: number, flags = 0): void {
    const write = this.host.checker.beginWrite(first, sectors, false)
    this.submit(Operation.write, first, sectors, flags, { write })
  }

  zero(first: number, sectors: number): void {
    const write = this.host.checker.beginWrite(first, sectors, true)
    this.submit(Operation.writeZeroes, first, sectors, 0, { write })
  }

  trim(first: number, sectors: number): void {
    const write = this.host.checker.beginWrite(first, sectors, true)
    this.submit(Operation.trim, first, sectors, 0, { write })
  }

  flush(): void {
    this.submit(Operation.flush, 0, 0, 0, { flushStart: this.host.checker.beginFlush() })
  }

  completed(request: Request): void {
    const job = this.jobs.get(request)
    // Code of a process that was killed in the middle of it: nobody hears of that any more.
    if (job === undefined && !this.process.alive) return
    this.jobs.delete(request)
    this.took(request, job!)
  }

  private took(request: Request, job: Job): void {
    if (request.operation === Operation.flush) this.losses.tell(request)
    const { error } = request
    let bytes: Buffer | null = null
    if (job.read !== null && error === null && !this.blind) {
      if (answer.length < request.length) answer = Buffer.alloc(request.length)
      bytes = answer
      if (request.payloadBytes !== request.length)
        this.host.violated(new Violation(`${job.text} got ${request.payloadBytes} bytes`))
      else request.copyTo(bytes)
    }
    request.release()
    this.operations++
    this.lastError = error
    if (error !== null) {
      this.errors++
      if (unexpected.has(error.code))
        this.host.violated(new Violation(`${job.text}: ${error.code} ${error.message}`))
    }
    this.end(job, bytes, error)
  }

  private next(): void {
    const { workload, dice } = this
    const { read, write, fua, flush, zero, trim } = workload
    let at = dice.between(0, read + write + fua + flush + zero + trim)
    const size = this.host.checker.size
    let sectors = Math.ceil(dice.skewed(0, workload.sectorsMax))
    sectors = Math.max(1, Math.min(sectors, size))
    const reach = workload.hot > 0 && dice.chance(0.7) ? Math.min(size, workload.hot) : size
    const first = dice.integer(0, Math.max(0, reach - sectors))
    sectors = Math.min(sectors, size - first)
    if ((at -= read) < 0) this.read(first, sectors)
    else if ((at -= write) < 0) this.write(first, sectors)
    else if ((at -= fua) < 0) this.write(first, sectors, Flag.fua)
    else if ((at -= flush) < 0) this.flush()
    else if ((at -= zero) < 0) this.zero(first, sectors)
    else this.trim(first, sectors)
  }

  private submit(
    operation: Operation,
    first: number,
    sectors: number,
    flags: number,
    what: { read?: Read; write?: Write; flushStart?: number },
  ): void {
    const { checker, trace } = this.host
    const { read = null, write = null, flushStart = 0 } = what
    const length = sectors * sectorBytes
    const value = write === null ? '' : ` #${write.value}`
    const range = operation === Operation.flush ? '' : ` ${first}+${sectors}`
    const name = `${operationNames[operation]}${flags === 0 ? '' : '!'}`
    const text = `${this.name} ${name}${range}${value}`
    if (!this.silent) trace.note(text, first, Math.max(1, sectors))
    const request = Request.take(operation, first * sectorBytes, length, flags, this)
    if (operation === Operation.write) {
      const lease = new PoisonLease(checker.fill(write!))
      // In pieces, as payloads arrive from sockets.
      for (let at = 0; at < length;) {
        const piece = Math.min(length - at, this.dice.integer(1, 4096))
        request.append(lease.bytes.subarray(at, at + piece), at === 0 ? lease : null)
        at += piece
      }
    }
    const stable = (flags & Flag.fua) !== 0
    const since = this.process.machine.clock.time
    this.jobs.set(request, { text, write, read, flushStart, stable, since })
    this.device.submit(request)
  }

  private end(job: Job, bytes: Buffer | null, error: Error | null): void {
    const { checker, trace } = this.host
    const { write, read, text } = job
    const code = (error as { code?: string } | null)?.code ?? error?.message
    const first = write?.first ?? read?.first ?? 0
    const sectors = write?.sectors ?? read?.allowed.length ?? 0
    if (!this.silent || code !== undefined)
      trace.note(`${text} ${code === undefined ? 'done' : `failed: ${code}`}`, first, sectors)
    try {
      if (write !== null) checker.endWrite(write, error === null, job.stable)
      else if (read !== null) checker.endRead(read, bytes)
      else this.host.flushed(this, job.flushStart, error)
    } catch (problem) {
      this.host.violated(problem as Error)
    }
  }
}
