import { StorageError } from '../../base/errors.ts'
import type { Leg } from '../leg.ts'
import type { Volume } from '../volume.ts'
import { WriteJob, type FlushJob } from './writes.ts'

/** Writes and flushes that have settled, but fewer legs have them than must: `minInSync`. */
export class ShortJobs {
  private readonly volume: Volume
  private entries: { readonly job: WriteJob | FlushJob; readonly since: number }[] = []

  constructor(volume: Volume) {
    this.volume = volume
  }

  get length(): number {
    return this.entries.length
  }

  /** Milliseconds that the oldest has waited; 0 when none does. */
  get oldestMs(): number {
    const [oldest] = this.entries
    return oldest === undefined ? 0 : this.volume.clock.now() - oldest.since
  }

  /**
   * Keeps it until there are enough legs, for `suspendMs` at most, also if there were enough for a
   * moment and it waits once more.
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

  /** It waits no longer. */
  drop(job: WriteJob | FlushJob): void {
    if (this.entries.length > 0) this.entries = this.entries.filter((one) => one.job !== job)
  }

  /** The leg lacks all of them. */
  markDirty(leg: Leg): void {
    for (const { job } of this.entries) if (job instanceof WriteJob) job.markDirty(leg)
  }

  /** The run ends. */
  clear(): void {
    this.entries = []
  }
}
