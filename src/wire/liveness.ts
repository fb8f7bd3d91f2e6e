import type { Outbox } from '../net/outbox.ts'
import type { Room } from '../export/admission.ts'
import type { Limits } from '../export/limits.ts'

/** Milliseconds without a byte from a client after which it is asked whether it is there. */
const pingInterval = 10_000
/** Milliseconds without a byte from a client after which it is taken for gone. */
const pingTimeout = 30_000

/** What a connection does now, as far as it bears on how long it may take. */
export interface Doing {
  /** Whether it has been welcomed. */
  readonly greeted: boolean
  /** Whether it is not read at the moment, so that its silence says nothing. */
  readonly stalled: boolean
  /** Monotonic, milliseconds: since when the payload lands that does; null when none does. */
  readonly landingSince: number | null
}

/** Finds out whether a client is there, says hello, sends what it announced, reads its replies. */
export class Liveness {
  private readonly limits: Limits
  private readonly outbox: Outbox
  private readonly room: Room
  private readonly startedAt: number
  private heardAt: number
  private pingedAt = 0
  private sentAt: number
  /** Batches that have to have left in time, counted from the first. */
  private due = 0
  /** Since the last look: whether bytes came, and whether a batch left. */
  heard = false
  sent = false

  /** `now` as for `look`. */
  constructor(limits: Limits, outbox: Outbox, room: Room, now: number) {
    this.limits = limits
    this.outbox = outbox
    this.room = room
    this.startedAt = this.heardAt = this.sentAt = now
  }

  /**
   * Called about once a second, with monotonic milliseconds. Says why the connection has to be
   * closed, or 'ping' when the client is to be asked whether it is there; null when all is well.
   */
  look(now: number, { greeted, stalled, landingSince }: Doing): string | null {
    const { limits, outbox } = this
    if (this.heard || stalled) this.heardAt = now
    // Whoever holds no more than is left for others may take its time, as long as it takes some.
    if (outbox.batchesSent >= this.due || (this.sent && !this.room.hinders)) {
      this.sentAt = now
      this.due = outbox.batchesFlushed
    }
    this.heard = false
    this.sent = false
    if (!greeted && now - this.startedAt > limits.handshakeTimeout) return 'no hello in time'
    if (now - this.sentAt > limits.sendTimeout) return 'it does not read its replies'
    // A byte now and then is no silence, but the room of its payload is what others wait for.
    if (landingSince !== null && now - landingSince > limits.sendTimeout)
      return 'a payload does not come'
    const silence = now - this.heardAt
    if (silence > pingTimeout) return 'it is silent'
    if (!greeted || silence <= pingInterval || now - this.pingedAt < pingInterval) return null
    this.pingedAt = now
    return 'ping'
  }
}
