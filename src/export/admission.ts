import { systemClock, type Clock } from '../base/clock.ts'
import { assert } from '../base/errors.ts'
import { Line, type Waiting } from '../base/line.ts'
import { KiB, MiB } from '../base/size.ts'
import { blockBytesMax } from '../base/slab.ts'

/** Something that waits for room. */
export interface Waiter {
  /** It has the room that it asked for. */
  admitted(): void
}

/** A payload that lands gets room for so many bytes at a time. */
export const stepBytes = 1 * MiB

/** Bytes beside the largest payload that one request can ask room for. */
const besidesMax = 2 * KiB

/**
 * Beyond the first half of the room, one peer may have one of so many parts of what is left; and
 * one connection one of so many parts of what its peer may have. Peers are few, connections many.
 */
const partsForPeers = 4
const partsForConnections = 8

/** How many that wait are looked at when room is given back, and in each turn after that. */
const looksAtOnce = 8
const looksPerTurn = 64

/**
 * Bounds the bytes that all clients together may have in flight, and shares them out.
 *
 * Room is reserved before anything is kept for a client: for a request with its answer before it is
 * taken in, for a payload step by step while it lands. It is given back when the answer has left
 * the socket. What goes on below a server needs no room of its own, so nothing waits in a circle.
 *
 *      bytes   | first half: as they come     | second half: in slices | spare            |
 *              0                                                        sharedMax          bytesMax
 *
 *  1. The first half of the shared room goes to the connections that come first. Of the second half
 *     a peer may have at most a quarter of what is left, so that there is always some for the next
 *     peer; its connections share what it may have in the same way, by eighths. So clients that
 *     hold much and give nothing back, for whatever reason, do not keep out those that come later.
 *  2. A request larger than a share gets through in the end: a connection that holds nothing, or
 *     has half a payload here, may have all that it still needs of the spare room. From there the
 *     request always gets to its end, or its connection does; then the next one can. A peer has no
 *     more than half of the spare room, unless a single request needs more.
 *  3. A connection that waits does not keep others waiting: all that wait are looked at in turn.
 */
export class Admission {
  /** Bytes of the largest request, with its payload and its answer, that ever gets room. */
  readonly largest: number
  /** @internal */ readonly sharedMax: number
  /** @internal */ readonly spareMax: number
  /** @internal With no more in use than this, shares need not be worked out: all have more. */
  readonly plenty: number
  /** @internal Bytes in use of the shared room. */
  shared = 0
  /** @internal Bytes in use of the spare room. */
  spare = 0
  private readonly clock: Clock
  private readonly peers = new Map<string, Peer>()
  /** Peers with connections that wait. */
  private readonly line = new Line<Peer>()
  private waiting = 0
  /** How many of the waiting rooms have yet to be looked at since room was given back. */
  private unseen = 0
  private looking = false
  private deferred = false

  /** `bytesMax` bounds what all hold; `payloadMax` is the longest payload of a request. */
  constructor(bytesMax: number, payloadMax = blockBytesMax, clock = systemClock) {
    this.clock = clock
    this.largest = Math.min(payloadMax + besidesMax, Math.floor(bytesMax / 2))
    this.spareMax = Math.max(this.largest, Math.floor(bytesMax / 4))
    this.sharedMax = bytesMax - this.spareMax
    // By `shareOf` a connection may always have this much, less what the others hold.
    this.plenty = Math.floor(this.sharedMax / 4)
  }

  get bytesInFlight(): number {
    return this.shared + this.spare
  }

  /** True when a connection other than `one` waits for room. */
  othersWait(one: Room | null): boolean {
    return this.waiting > (one?.waits === true ? 1 : 0)
  }

  /** Makes the room of a connection; `origin` tells peers apart, undefined for unix sockets. */
  join(origin: string | undefined, waiter: Waiter): Room {
    const key = origin ?? ''
    let peer = this.peers.get(key)
    if (peer === undefined) {
      peer = new Peer(key)
      this.peers.set(key, peer)
    }
    peer.rooms++
    return new Room(this, peer, waiter)
  }

  /** @internal Bytes of the shared room that the connection may have now. */
  shareOf(room: Room): number {
    const { peer } = room
    const ofPeer = this.shareOfPeer(peer)
    const leftOfPeer = ofPeer - (peer.shared - room.shared)
    return Math.max(leftOfPeer - ofPeer / 2, leftOfPeer / partsForConnections)
  }

  /** @internal Bytes of what is left that are for the connection, and as many for each other. */
  sliceOf({ peer, shared }: Room): number {
    return (this.shareOfPeer(peer) - (peer.shared - shared)) / partsForConnections
  }

  private shareOfPeer(peer: Peer): number {
    const left = this.sharedMax - (this.shared - peer.shared)
    return Math.max(left - this.sharedMax / 2, left / partsForPeers)
  }

  /** @internal True when the peer may have so many bytes more of the spare room. */
  sparesFor(peer: Peer, bytes: number): boolean {
    if (this.spare + bytes > this.spareMax) return false
    return peer.spare === 0 || peer.spare + bytes <= this.spareMax / 2
  }

  /** @internal The connection begins to wait. */
  enter(room: Room): void {
    const { peer } = room
    if (peer.line.length === 0) this.line.push(peer)
    peer.line.push(room)
    this.waiting++
  }

  /** @internal The connection waits no longer. */
  leave(room: Room): void {
    const { peer } = room
    peer.line.remove(room)
    if (peer.line.length === 0) this.line.remove(peer)
    this.waiting--
  }

  /** @internal The connection and all that it held are gone. */
  part(peer: Peer): void {
    if (--peer.rooms === 0) this.peers.delete(peer.key)
  }

  /** @internal A connection gave room back, or is gone. */
  wake(by: Room): void {
    if (this.waiting === 0) return
    this.unseen = this.waiting
    if (this.looking) return
    if (by.waits) this.offer(by)
    this.look(looksAtOnce)
  }

  private look(most: number): void {
    for (let looks = 0; looks < most && this.unseen > 0 && this.waiting > 0; looks++) {
      this.unseen--
      this.offer(this.line.rotate()!.line.rotate()!)
    }
    if (this.unseen === 0 || this.waiting === 0 || this.deferred) return
    this.deferred = true
    this.clock.defer(this.lookOn)
  }

  private readonly lookOn = (): void => {
    this.deferred = false
    this.look(looksPerTurn)
  }

  private offer(room: Room): void {
    // A connection that gets room may give some back at once: the loop under way goes on then.
    this.looking = true
    room.offer()
    this.looking = false
  }
}

/** What the connections of one peer hold together. */
class Peer implements Waiting<Peer> {
  readonly key: string
  ahead: Peer | null = null
  behind: Peer | null = null
  rooms = 0
  shared = 0
  spare = 0
  readonly line = new Line<Room>()

  constructor(key: string) {
    this.key = key
  }
}

/** What one connection holds of the room, and waits for: one request at a time. */
export class Room implements Waiting<Room> {
  ahead: Room | null = null
  behind: Room | null = null
  /** @internal */ readonly peer: Peer
  /** @internal Bytes of the shared room. */
  shared = 0
  /** Bytes of the spare room, and those of them that are for what has yet to land. */
  private spare = 0
  private credit = 0
  private readonly admission: Admission
  private readonly waiter: Waiter
  /** What it waits for: bytes now, more of the same payload later; whether that is half here. */
  private wanted = 0
  private wantedLater = 0
  private continuing = false
  /** Whether it stands in the line, and whether it has what it stood there for. */
  waits = false
  private granted = false
  private isGone = false

  /** @internal */
  constructor(admission: Admission, peer: Peer, waiter: Waiter) {
    this.admission = admission
    this.peer = peer
    this.waiter = waiter
  }

  /** Bytes that it was given and has not given back. */
  get held(): number {
    const waiting = this.granted ? this.wanted + this.credit : 0
    return this.shared + this.spare - waiting
  }

  /** True when it holds more than is left for each of the others, while one of them waits. */
  get hinders(): boolean {
    const { admission } = this
    if (!admission.othersWait(this)) return false
    return this.spare > 0 || this.shared > admission.sliceOf(this)
  }

  /**
   * Takes room for a request of `bytes`, for whose payload `extend` will ask `later` bytes more.
   * False when there is none: the waiter is told when it has the room, and asks again for the same.
   */
  reserve(bytes: number, later = 0): boolean {
    const { admission } = this
    assert(bytes + later <= admission.largest, 'a request fits into the limit')
    if (admission.shared + bytes <= admission.plenty && !this.waits && !this.granted) {
      this.charge(bytes)
      return true
    }
    return this.ask(bytes, later, 'first')
  }

  /** Takes room for the next `bytes` of a payload, which `later` more will follow; as `reserve`. */
  extend(bytes: number, later: number): boolean {
    if (this.granted || this.credit < bytes) return this.ask(bytes, later, 'next')
    this.credit -= bytes
    return true
  }

  /** Takes a few bytes for what cannot wait. */
  charge(bytes: number): void {
    this.shared += bytes
    this.peer.shared += bytes
    this.admission.shared += bytes
  }

  /** Gives back what was reserved and is not needed any more. */
  giveBack(bytes: number): void {
    if (bytes === 0) return
    const spare = this.spare === 0 ? 0 : Math.min(bytes, this.spare - this.credit)
    this.free(bytes - spare, spare)
    this.settle()
  }

  /**
   * The connection is gone: it waits for nothing any more, and no more of its payload will land.
   * What else it holds is still to be given back.
   */
  leave(): void {
    if (this.waits) this.admission.leave(this)
    this.waits = false
    this.drop()
    this.free(0, this.credit)
    this.credit = 0
    this.isGone = true
    this.settle()
  }

  /** @internal Grants what it waits for if that can be, and tells the waiter. */
  offer(): void {
    if (!this.take(this.wanted, this.wantedLater)) return
    this.admission.leave(this)
    this.waits = false
    this.granted = true
    this.waiter.admitted()
  }

  private ask(bytes: number, later: number, part: 'first' | 'next'): boolean {
    if (this.granted) {
      if (bytes === this.wanted && later === this.wantedLater) {
        this.granted = false
        return true
      }
      this.drop()
    }
    this.wanted = bytes
    this.wantedLater = later
    this.continuing = part === 'next'
    if (this.take(bytes, later)) return true
    if (!this.waits) this.admission.enter(this)
    this.waits = true
    return false
  }

  /** Gives back what was granted and is not wanted any more. */
  private drop(): void {
    if (!this.granted) return
    this.granted = false
    this.free(0, this.credit)
    this.credit = 0
    this.giveBack(this.wanted)
  }

  private take(bytes: number, later: number): boolean {
    const { admission, peer } = this
    if (this.shared + bytes <= admission.shareOf(this)) {
      this.charge(bytes)
      return true
    }
    const all = bytes + later
    const helped = this.continuing || this.held === 0
    if (!helped || this.spare > 0 || !admission.sparesFor(peer, all)) return false
    this.spare = all
    this.credit = later
    peer.spare += all
    admission.spare += all
    return true
  }

  private free(shared: number, spare: number): void {
    const { admission, peer } = this
    this.shared -= shared
    peer.shared -= shared
    admission.shared -= shared
    if (spare > 0) {
      this.spare -= spare
      peer.spare -= spare
      admission.spare -= spare
    }
    assert(this.shared >= 0 && this.spare >= 0, 'only what was reserved is given back')
  }

  private settle(): void {
    const { admission, peer } = this
    admission.wake(this)
    if (!this.isGone || this.held > 0) return
    this.isGone = false
    admission.part(peer)
  }
}
