import type { Intake } from '../export/intake.ts'

/** Milliseconds without a byte from a client after which it is asked whether it is there. */
const pingIntervalMs = 10_000
/** Milliseconds without a byte from a client after which it is taken for gone. */
const pingTimeoutMs = 30_000

/** Finds out whether a client is there, says hello, sends what it announced, reads replies. */
export class Liveness {
  private readonly intake: Intake
  private readonly startedAt: number
  private heardAt: number
  private pingedAt = 0

  /** `now` is monotonic, in milliseconds. */
  constructor(intake: Intake, now: number) {
    this.intake = intake
    this.startedAt = this.heardAt = now
  }

  /**
   * Called about once a second, with monotonic milliseconds. Says why the connection has to be
   * closed, or 'ping' when the client is to be asked whether it is there; null when all is well.
   */
  look(now: number, stage: 'greeting' | 'welcomed'): string | null {
    const { intake } = this
    const greeting = stage === 'greeting'
    // A client that has replies to take is timed by how it takes them: a ping comes after them.
    if (intake.heard || intake.stalled || intake.outbox.bytesQueued > 0) this.heardAt = now
    intake.heard = false
    const { handshakeTimeout } = intake.context.limits
    if (greeting && now - this.startedAt > handshakeTimeout) return 'no hello in time'
    const late = intake.whyLate(now)
    if (late !== null) return late
    // Its pings wait behind a request that waits for long, and it must not take us for gone.
    if (intake.throttled && intake.outbox.bytesQueued === 0) return 'ping'
    const silence = now - this.heardAt
    if (silence > pingTimeoutMs) return 'it is silent'
    if (greeting || silence <= pingIntervalMs || now - this.pingedAt < pingIntervalMs) return null
    this.pingedAt = now
    return 'ping'
  }
}
