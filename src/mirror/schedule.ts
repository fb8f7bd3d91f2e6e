import type { Timer } from '../base/clock.ts'
import { systemError } from '../base/errors.ts'
import { countFromNow, verifiedOf } from './data/differences.ts'
import type { VerifyOptions, VerifyResult } from './data/verify.ts'
import type { Volume } from './volume.ts'

/** Bounds of the milliseconds between two looks whether a verify is due. */
const lookMsMax = 60_000
const lookMsMin = 100

/**
 * Verifies a volume now and then, `verifyEveryMs` after the last verify ended, whether scheduled or
 * asked for. If the end of the run or of the process interrupts a verify, the next goes on from
 * where it was.
 */
export class VerifySchedule {
  private readonly volume: Volume
  private readonly verify: (options: VerifyOptions) => Promise<VerifyResult>
  private timer: Timer | null = null
  private running = false

  constructor(volume: Volume, verify: (options: VerifyOptions) => Promise<VerifyResult>) {
    this.volume = volume
    this.verify = verify
  }

  /** Starts to look whether a verify is due. Does nothing if none is configured. */
  start(): void {
    const { verifyEveryMs } = this.volume.settings
    if (verifyEveryMs === null) return
    const ms = Math.min(lookMsMax, Math.max(lookMsMin, verifyEveryMs / 10))
    this.timer = this.volume.clock.timer(ms, () => {
      this.start()
      void this.look(verifyEveryMs)
    })
  }

  stop(): void {
    this.timer?.cancel()
    this.timer = null
  }

  private async look(everyMs: number): Promise<void> {
    const { volume } = this
    const { record, resyncs, verifying, readable } = volume
    if (this.running || !volume.running || record === null) return
    const now = Math.floor(volume.clock.wall())
    if (countFromNow(record, now)) volume.membership.request('record')
    const verified = verifiedOf(record)
    const isDue = verified.position > 0 || now - verified.countedFrom >= everyMs
    if (!isDue || verifying !== null || resyncs.size > 0 || readable.length < 2) return
    this.running = true
    try {
      await this.verify({ from: verified.position, ...speedOf(volume) })
    } catch (error) {
      const failure = systemError(error, 'the scheduled verify')
      volume.log.info(
        { volume: volume.path, err: failure },
        `${volume.path}: the scheduled verify did not begin`,
      )
    } finally {
      this.running = false
    }
  }
}

function speedOf({ settings }: Volume): Pick<VerifyOptions, 'bytesPerSecond'> {
  const { verifyBytesPerSecond } = settings
  return verifyBytesPerSecond === null ? {} : { bytesPerSecond: verifyBytesPerSecond }
}
