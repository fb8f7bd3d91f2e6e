import { Operation, type Request } from '../../device/request.ts'
import type { Volume } from '../volume.ts'
import type { Job } from './job.ts'
import { ReadJob } from './reads.ts'
import { FlushJob, WriteJob } from './writes.ts'

/** The requests of clients that are under way. Job objects are reused. */
export class Jobs {
  private readonly volume: Volume
  private underWay: Job[] = []
  private begun = 0
  /** Writes and flushes under way. */
  private changes = 0
  private readonly reads: ReadJob[] = []
  private readonly writes: WriteJob[] = []
  private readonly flushes: FlushJob[] = []
  /** Whether no write or flush may begin. */
  quieted = false
  private drained: (() => void) | null = null

  constructor(volume: Volume) {
    this.volume = volume
  }

  beginRead(request: Request, deadline: number | undefined): void {
    const job = this.reads.pop() ?? new ReadJob(this.volume)
    job.join(this.underWay, this.begun++, deadline)
    job.start(request)
  }

  beginChange(request: Request, deadline: number | undefined): void {
    this.changes++
    const job =
      request.operation === Operation.flush
        ? (this.flushes.pop() ?? new FlushJob(this.volume))
        : (this.writes.pop() ?? new WriteJob(this.volume))
    job.join(this.underWay, this.begun++, deadline)
    job.start(request)
  }

  endRead(job: ReadJob): void {
    job.leave(this.underWay)
    this.reads.push(job)
  }

  endWrite(job: WriteJob): void {
    job.leave(this.underWay)
    this.writes.push(job)
    this.changeEnded()
  }

  endFlush(job: FlushJob): void {
    job.leave(this.underWay)
    this.flushes.push(job)
    this.changeEnded()
  }

  private changeEnded(): void {
    this.changes--
    if (this.drained !== null) this.maybeDrained()
  }

  /** Takes out all jobs under way, in the order they came, because the run ends. */
  endAll(): readonly Job[] {
    const jobs = this.underWay.toSorted((one, other) => one.order - other.order)
    this.underWay = []
    this.changes = 0
    this.volume.short.clear()
    this.maybeDrained()
    return jobs
  }

  /**
   * Carries `action` out while no write or flush is under way; those that come meanwhile are
   * parked. Settles as the action does.
   */
  async quiet<T>(action: () => Promise<T>): Promise<T> {
    this.quieted = true
    try {
      if (this.busy > 0) await new Promise<void>((resolve) => (this.drained = resolve))
      return await action()
    } finally {
      this.drained = null
      this.quieted = false
      this.volume.unpark()
    }
  }

  /** Writes and flushes under way that do not only wait for more legs to be in sync. */
  private get busy(): number {
    return this.changes - this.volume.short.length
  }

  private maybeDrained(): void {
    if (this.drained !== null && this.busy === 0) this.drained()
  }

  /** Keeps a write or flush that has settled until enough legs are in sync. */
  awaitLegs(job: WriteJob | FlushJob): void {
    this.volume.short.add(job)
    this.maybeDrained()
  }

  /** Whether a write is under way, or waits for more legs, a record or a leg before its answer. */
  get isWriting(): boolean {
    return this.underWay.some((job) => job instanceof WriteJob)
  }

  /** Calls back with every write that is neither acknowledged nor failed. */
  forEachWrite(found: (write: WriteJob) => void): void {
    for (const job of this.underWay) if (job instanceof WriteJob) found(job)
  }
}
