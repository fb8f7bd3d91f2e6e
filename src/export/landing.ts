import type { Request } from '../device/request.ts'
import type { Inbox } from '../net/inbox.ts'
import { stepBytes, type Room } from './admission.ts'

/** Whether a payload is here, has a place to land, or has to wait for room. */
export type Progress = 'here' | 'landing' | 'waiting'

/**
 * A write's payload on its way in, one step after the other: each gets room, then a block, then
 * lands. So a client that announces much and sends little holds little.
 */
export class Landing {
  /** Null while nothing lands. */
  request: Request | null = null
  /** Bytes of the payload that have no room yet. */
  rest = 0
  private readonly inbox: Inbox
  private readonly room: Room

  constructor(inbox: Inbox, room: Room) {
    this.inbox = inbox
    this.room = room
  }

  /** Bytes of a payload of `length` for which there has to be room before it begins. */
  static firstStep(length: number): number {
    return Math.min(length, stepBytes)
  }

  /** Takes in a write with a payload of `length` bytes; its first step has its room already. */
  begin(request: Request, length: number): Progress {
    const first = Landing.firstStep(length)
    this.request = request
    this.rest = length - first
    this.inbox.takePayload(request, first)
    return this.goOn()
  }

  /** Goes on with the next steps, as far as they get room. */
  goOn(): Progress {
    const { inbox } = this
    while (this.rest > 0 && !inbox.payloadLanding) {
      const bytes = Math.min(this.rest, stepBytes)
      if (!this.room.extend(bytes, this.rest - bytes)) return 'waiting'
      this.rest -= bytes
      inbox.takePayload(this.request!, bytes)
    }
    return inbox.payloadLanding ? 'landing' : 'here'
  }

  /** Returns the request, whether all of it is here or not; nothing lands for it any more. */
  end(): Request {
    const request = this.request!
    this.request = null
    this.rest = 0
    return request
  }
}
