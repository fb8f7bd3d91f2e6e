import type { Volume } from './volume.ts'

/** The longest a piece waits for clients: work in the background gives way, it never starves. */
const yieldMsMax = 200

/** Keeps background copying from hurting clients: a speed limit, and a ceiling of their latency. */
export class Pace {
  private readonly volume: Volume
  private readonly bytesPerSecond: number | null
  private freeAt = 0

  constructor(volume: Volume, bytesPerSecond: number | null) {
    this.volume = volume
    this.bytesPerSecond = bytesPerSecond
    volume.measuring = true
  }

  /** Resolves when the next `bytes` may be copied, never before the loop has turned. */
  async before(bytes: number): Promise<void> {
    const { volume } = this
    const now = volume.clock.now()
    let wait = 0
    if (this.bytesPerSecond !== null) {
      wait = Math.max(0, this.freeAt - now)
      this.freeAt = Math.max(now, this.freeAt) + (bytes * 1000) / this.bytesPerSecond
    }
    const { resyncLatencyMs } = volume.settings
    if (volume.latencyMs > resyncLatencyMs) {
      wait = Math.max(wait, Math.min(yieldMsMax, volume.latencyMs))
      // Without clients' writes nothing measures: an old figure fades.
      volume.latencyMs *= 0.9
    }
    if (wait > 0) await volume.pause(wait)
    else
      await new Promise<void>((resolve) => {
        volume.clock.defer(resolve)
      })
  }

  /** Of the `planned` bytes only so many were moved. */
  spent(planned: number, moved: number): void {
    if (this.bytesPerSecond !== null)
      this.freeAt -= ((planned - moved) * 1000) / this.bytesPerSecond
  }
}
