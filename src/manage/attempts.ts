import type { Clock } from '../base/clock.ts'

/** Wrong tokens of one peer that are looked at, and the milliseconds in which. */
const wrongMax = 10
const timeMs = 60_000
/** Peers that are remembered; of more, the one that has been quiet for the longest is forgotten. */
const peersMax = 1024

/** Bounds how many tokens a stranger can try. */
export class Attempts {
  private readonly clock: Clock
  private readonly peers = new Map<string, { readonly wrong: number; readonly until: number }>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Seconds until tokens of this peer are looked at again; 0 when they are now. */
  wait(origin: string): number {
    const known = this.peers.get(origin)
    const left = known === undefined ? 0 : known.until - this.clock.now()
    return left > 0 && known!.wrong >= wrongMax ? Math.ceil(left / 1000) : 0
  }

  /** Notes a wrong token. */
  failed(origin: string): void {
    const now = this.clock.now()
    const known = this.peers.get(origin)
    const goesOn = known !== undefined && now < known.until
    this.peers.delete(origin)
    this.peers.set(origin, {
      wrong: goesOn ? known.wrong + 1 : 1,
      until: goesOn ? known.until : now + timeMs,
    })
    const [oldest] = this.peers.keys()
    if (this.peers.size > peersMax) this.peers.delete(oldest!)
  }
}
