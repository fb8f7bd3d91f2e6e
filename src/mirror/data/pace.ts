import type { Volume } from '../volume.ts'

/** The longest a piece waits for clients: work in the background gives way, it never starves. */
const yieldMsMax = 200

/** How long clients' writes take, measured while somebody keeps a pace. */
export class WriteLatency {
  paces = 0
  /** Milliseconds, smoothed. */
  ms = 0

  get wanted(): boolean {
    return this.paces > 0
  }

  measured(ms: number): void {
    this.ms += (ms - this.ms) / 16
  }
}

/** Keeps background copying from hurting clients: a speed limit, and a ceiling of their latency. */
export class Pace {
  private readonly volume: Volume
  private readonly bytesPerSecond: number | null
  private freeAt = 0
  /** Ends the pause of each who waits. */
  private readonly waiting = new Set<() => void>()

  constructor(volume: Volume, bytesPerSecond: number | null) {
    this.volume = volume
    this.bytesPerSecond = bytesPerSecond
    volume.latency.paces++
  }

  /** What was copied at this pace is done, or given up. */
  end(): void {
    this.volume.latency.paces--
  }

  /** Whoever waits waits no longer: there is something else to look at than the speed. */
  wake(): void {
    for (const over of this.waiting) over()
  }

  /**
   * Resolves when the next `bytes` may be copied, or nothing is to be copied any more: whoever
   * waits must look. Never before the loop has turned.
   */
  async before(bytes: number): Promise<void> {
    const { volume } = this
    const now = volume.clock.now()
    let wait = 0
    if (this.bytesPerSecond !== null) {
      wait = Math.max(0, this.freeAt - now)
      this.freeAt = Math.max(now, this.freeAt) + (bytes * 1000) / this.bytesPerSecond
    }
    const { latency, settings } = volume
    if (latency.ms > settings.resyncLatencyMs) {
      wait = Math.max(wait, Math.min(yieldMsMax, latency.ms))
      // Without clients' writes nothing measures: an old figure fades.
      latency.ms *= 0.9
    }
    if (wait > 0) await this.pause(wait)
    else
      await new Promise<void>((resolve) => {
        volume.clock.defer(resolve)
      })
  }

  private pause(ms: number): Promise<void> {
    const { waiting, volume } = this
    return new Promise((resolve) => {
      const over = (): void => {
        timer.cancel()
        waiting.delete(over)
        volume.onEnd.delete(over)
        resolve()
      }
      const timer = volume.clock.timer(ms, over)
      waiting.add(over)
      volume.onEnd.add(over)
    })
  }

  /** Of the `planned` bytes only so many were moved. */
  spent(planned: number, moved: number): void {
    if (this.bytesPerSecond !== null)
      this.freeAt -= ((planned - moved) * 1000) / this.bytesPerSecond
  }
}
