import type { Clock, Timer } from '../../base/clock.ts'

/** Milliseconds between two looks at handshakes that wait. */
const tickMs = 50
/** Seconds of its share that a peer which was quiet may use at once: it reconnects with all. */
const burstSeconds = 2
/** Handshakes of one peer that are under way: each takes memory, and may never go on. */
const underWayMax = 64

/** A handshake that was let in or waits. */
interface Turn {
  readonly begin: () => void
  state: 'waiting' | 'under way' | 'over'
}

interface Peer {
  /** Handshakes that it may begin now, a part of one included. */
  allowance: number
  /** Monotonic, milliseconds: when that was counted. */
  at: number
  underWay: number
  readonly waiting: Turn[]
}

/**
 * Bounds the handshakes of each peer: one costs the server some milliseconds of the processor, and
 * a stranger next to nothing. What is too much waits, unread in its socket, and others do not wait
 * for it. There is no limit for all together, which a few peers could use up.
 */
export class Turns {
  private readonly clock: Clock
  private readonly perSecond: number
  private readonly peers = new Map<string, Peer>()
  private timer: Timer | null = null

  /** `perSecond`: handshakes that one peer may begin in a second. */
  constructor(clock: Clock, perSecond: number) {
    this.clock = clock
    this.perSecond = perSecond
  }

  /**
   * Calls `begin` when it is this peer's turn, perhaps at once; `origin` is what the peer counts
   * as, undefined for one of a unix socket, which is trusted. The returned function ends the turn,
   * or the wait for it; further calls do nothing.
   */
  enter(origin: string | undefined, begin: () => void): () => void {
    if (origin === undefined) {
      begin()
      return () => undefined
    }
    const peer = this.peerOf(origin)
    const turn: Turn = { begin, state: 'waiting' }
    peer.waiting.push(turn)
    this.serve(peer)
    this.schedule()
    return () => this.leave(peer, turn)
  }

  private get burst(): number {
    return Math.max(1, this.perSecond * burstSeconds)
  }

  private peerOf(origin: string): Peer {
    const known = this.peers.get(origin)
    if (known !== undefined) return known
    const made = { allowance: this.burst, at: this.clock.now(), underWay: 0, waiting: [] }
    this.peers.set(origin, made)
    return made
  }

  private leave(peer: Peer, turn: Turn): void {
    if (turn.state === 'waiting') peer.waiting.splice(peer.waiting.indexOf(turn), 1)
    else if (turn.state === 'under way') peer.underWay--
    turn.state = 'over'
  }

  private serve(peer: Peer): void {
    const now = this.clock.now()
    const earned = ((now - peer.at) / 1000) * this.perSecond
    peer.allowance = Math.min(this.burst, peer.allowance + earned)
    peer.at = now
    while (peer.allowance >= 1 && peer.underWay < underWayMax) {
      const turn = peer.waiting.shift()
      if (turn === undefined) return
      peer.allowance--
      peer.underWay++
      turn.state = 'under way'
      turn.begin()
    }
  }

  private schedule(): void {
    this.timer ??= this.clock.timer(tickMs, () => {
      this.timer = null
      for (const [origin, peer] of this.peers) {
        this.serve(peer)
        const isIdle = peer.underWay === 0 && peer.waiting.length === 0
        if (isIdle && peer.allowance === this.burst) this.peers.delete(origin)
      }
      if (this.peers.size > 0) this.schedule()
    })
  }
}
