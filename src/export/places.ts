import { silentLog, type Log } from '../base/log.ts'
import { isKeptBack, type Descriptors } from '../net/descriptors.ts'
import type { Connection } from '../net/network.ts'
import type { Limits } from './limits.ts'

/** How many connections were refused, by reason. */
export interface Refused {
  /** All places are taken. */
  connections: number
  /** All places that one peer may have are taken. */
  connectionsPerPeer: number
  /** All file descriptors are in use but for those kept back. */
  descriptors: number
}

/**
 * Bounds the connections of all clients. TCP and unix sockets have as many places each, and no peer
 * may take all of TCP's: idle connections are legal, so that only a limit keeps one peer from
 * shutting out the others. A user who may open a unix socket is trusted with its places.
 */
export class Places {
  /** Counted since the start. */
  readonly refused: Refused = { connections: 0, connectionsPerPeer: 0, descriptors: 0 }
  private readonly limits: Limits
  private readonly log: Log
  private readonly descriptors: Descriptors | null
  private overTcp = 0
  private overUnix = 0
  /** Connections over TCP, by origin. */
  private readonly ofPeers = new Map<string, number>()

  constructor(limits: Limits, log: Log = silentLog, descriptors: Descriptors | null = null) {
    this.limits = limits
    this.log = log
    this.descriptors = descriptors
  }

  /** Takes a place for the connection, to be left once. False, and logged, when there is none. */
  enter(connection: Connection): boolean {
    const refusal = this.refusal(connection)
    if (refusal !== null) {
      this.refused[refusal]++
      this.tell(refusal, connection)
      return false
    }
    const { origin } = connection
    if (origin === undefined) this.overUnix++
    else {
      this.overTcp++
      this.ofPeers.set(origin, this.of(origin) + 1)
    }
    return true
  }

  leave({ origin }: Connection): void {
    if (origin === undefined) {
      this.overUnix--
      return
    }
    this.overTcp--
    const left = this.of(origin) - 1
    if (left === 0) this.ofPeers.delete(origin)
    else this.ofPeers.set(origin, left)
  }

  private of(origin: string): number {
    return this.ofPeers.get(origin) ?? 0
  }

  private refusal({ origin, descriptor }: Connection): keyof Refused | null {
    const { limits, descriptors } = this
    if (descriptors !== null && descriptor !== undefined && isKeptBack(descriptors, descriptor))
      return 'descriptors'
    const taken = origin === undefined ? this.overUnix : this.overTcp
    if (taken >= limits.connections) return 'connections'
    if (origin !== undefined && this.of(origin) >= limits.connectionsPerPeer)
      return 'connectionsPerPeer'
    return null
  }

  private tell(refusal: keyof Refused, { peer, origin }: Connection): void {
    const fields = { peer, refused: this.refused[refusal] }
    if (refusal === 'descriptors') {
      const { limit, kept } = this.descriptors!
      const words = `of ${limit} open files, ${kept} are kept back: raise the limit of open files`
      this.log.warn(fields, `no file descriptors left for clients: one was cut off; ${words}`)
      return
    }
    const limit = this.limits[refusal]
    const from = refusal === 'connections' ? '' : ` from ${origin}`
    this.log.warn(
      { ...fields, limit },
      `too many connections${from}: one was closed at once (limits.${refusal}: ${limit})`,
    )
  }
}
