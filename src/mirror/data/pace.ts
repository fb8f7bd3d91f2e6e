import type { Volume } from '../volume.ts'

/** The longest a piece waits for clients: work in the background gives way, it never starves. */
const yieldMsMax = 200

/** How long clients' writes take; measured only while a background copy paces itself by it. */
export class WriteLatency {
  /** Number of background copies that use the figure. */
  paces = 0
  /** Smoothed duration of a write, milliseconds. */
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
  /** Functions that end the pauses under way. */
  private readonly waiting = new Set<() => void>()

  constructor(volume: Volume, bytesPerSecond: number | null) {
    this.volume = volume
    this.bytesPerSecond = bytesPerSecond
    volume.latency.paces++
  }

  /** Call once, when the copy is done or given up. */
  end(): void {
    this.volume.latency.paces--
  }

  /** Ends every pause now, so that the copies look at what has changed. */
  wake(): void {
    for (const over of this.waiting) over()
  }

  /**
   * Resolves when the next `bytes` may be copied, or earlier when woken or when the run ends: the
   * caller checks whether to go on. Never resolves before the event loop has turned.
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
      // Without writes of clients nothing is measured: the old figure fades.
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

  /** Gives back the time of those `planned` bytes that were not moved. */
  spent(planned: number, moved: number): void {
    if (this.bytesPerSecond !== null)
      this.freeAt -= ((planned - moved) * 1000) / this.bytesPerSecond
  }
}
