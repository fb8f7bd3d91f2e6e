import { StorageError } from '../../base/errors.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import { WriteJob, type FlushJob } from './writes.ts'

/** Writes and flushes that have settled while fewer than `minInSync` legs are in sync. */
export class ShortJobs {
  private readonly volume: Volume
  private entries: { readonly job: WriteJob | FlushJob; readonly since: number }[] = []

  constructor(volume: Volume) {
    this.volume = volume
  }

  get length(): number {
    return this.entries.length
  }

  /** Milliseconds that the oldest job has waited; 0 when none waits. */
  get oldestMs(): number {
    const [oldest] = this.entries
    return oldest === undefined ? 0 : this.volume.clock.now() - oldest.since
  }

  /**
   * Keeps the job until enough legs are in sync, and fails it after `suspendMs`. Adding it again
   * while it is kept does not extend that time.
   */
  add(job: WriteJob | FlushJob): void {
    const { volume } = this
    if (this.entries.some((one) => one.job === job)) return
    const entry = { job, since: volume.clock.now() }
    this.entries.push(entry)
    volume.clock.timer(volume.settings.suspendMs, () => {
      if (!this.entries.includes(entry)) return
      this.entries = this.entries.filter((one) => one !== entry)
      volume.membership.forget(job)
      job.fail(new StorageError('UNAVAILABLE', 'too few legs are in sync', volume.path))
    })
  }

  /** Forgets the job, which waits no longer. */
  drop(job: WriteJob | FlushJob): void {
    if (this.entries.length > 0) this.entries = this.entries.filter((one) => one.job !== job)
  }

  /** Marks every waiting write as lacking on the leg. */
  markDirty(leg: Leg): void {
    for (const { job } of this.entries) if (job instanceof WriteJob) job.markDirty(leg)
  }

  /** Forgets all jobs, because the run ends. */
  clear(): void {
    this.entries = []
  }
}
