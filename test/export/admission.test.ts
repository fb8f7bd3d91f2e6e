import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Admission, stepBytes, type Room, type Waiter } from '../../src/export/admission.ts'
import { ManualClock } from '../support/clock.ts'
import { SeededRandom } from '../support/seeded.ts'

const bytesMax = 256 * MiB
const largest = 32 * MiB

/** A connection with a payload that lands as soon as there is room for it. */
class Sender implements Waiter {
  readonly room: Room
  readonly length: number
  landed = 0

  constructor(admission: Admission, length: number) {
    this.room = admission.join('one', this)
    this.length = length
  }

  land(): void {
    while (this.landed < this.length) {
      const bytes = Math.min(stepBytes, this.length - this.landed)
      const later = this.length - this.landed - bytes
      const has =
        this.landed === 0 ? this.room.reserve(bytes, later) : this.room.extend(bytes, later)
      if (!has) return
      this.landed += bytes
    }
  }

  /** Gives back what has landed in full. */
  finish(): boolean {
    if (this.landed < this.length) return false
    this.room.giveBack(this.length)
    return true
  }

  admitted(): void {
    this.land()
  }
}

/** A connection that asks for room, and asks again when it has it. */
class Client implements Waiter {
  readonly room: Room
  /** Bytes of the requests for which it has room. */
  readonly granted: number[] = []
  private wanted = 0
  private later = 0

  constructor(admission: Admission, origin = 'one') {
    this.room = admission.join(origin, this)
  }

  want(bytes: number, later = 0): boolean {
    this.wanted = bytes
    this.later = later
    if (!this.room.reserve(bytes, later)) return false
    this.granted.push(bytes)
    return true
  }

  /** Wants the same again until it has to wait; how often it did not. */
  wantAll(bytes: number): number {
    const before = this.granted.length
    while (this.want(bytes));
    return this.granted.length - before
  }

  /** Begins a payload, and lands of it what it can; the bytes that have landed. */
  land(length: number): number {
    if (!this.want(Math.min(length, stepBytes), length - Math.min(length, stepBytes))) return 0
    let landed = Math.min(length, stepBytes)
    while (landed < length && this.room.extend(stepBytes, length - landed - stepBytes))
      landed += stepBytes
    return landed
  }

  admitted(): void {
    this.want(this.wanted, this.later)
  }
}

function many(admission: Admission, count: number, origin = 'one'): Client[] {
  return Array.from({ length: count }, () => new Client(admission, origin))
}

describe('admission', () => {
  let clock: ManualClock
  let admission: Admission
  beforeEach(() => {
    clock = new ManualClock()
    admission = new Admission(bytesMax, largest, clock)
  })

  it('gives one that is alone plenty, and never all', () => {
    const alone = new Client(admission)
    expect(alone.wantAll(MiB)).to.be.within(40, 64)
    expect(admission.bytesInFlight).to.be.below(bytesMax / 2)
  })

  it('leaves room for others, whatever nine hold and never give back', () => {
    for (const each of many(admission, 9)) each.wantAll(MiB)
    const sibling = new Client(admission)
    expect(sibling.wantAll(64 * KiB) * 64 * KiB).to.be.at.least(1.5 * MiB)
    const stranger = new Client(admission, 'another')
    expect(stranger.wantAll(MiB)).to.be.at.least(10)
    expect(admission.bytesInFlight).to.be.below(bytesMax)
  })

  it('leaves room for small requests, whatever thousands hold', () => {
    for (const each of many(admission, 4096)) each.wantAll(128 * KiB)
    expect(new Client(admission).want(8 * KiB)).to.equal(true)
    for (let at = 0; at < 8; at++)
      expect(new Client(admission, `another ${at}`).want(128 * KiB)).to.equal(true)
  })

  it('holds little for those who announce much and send little', () => {
    for (const each of many(admission, 9)) expect(each.want(stepBytes, 31 * MiB)).to.equal(true)
    expect(admission.bytesInFlight).to.equal(9 * stepBytes)
    expect(new Client(admission).land(largest)).to.equal(largest)
  })

  it('lets every payload come to its end, however many are half here', () => {
    let senders = Array.from({ length: 40 }, () => new Sender(admission, largest))
    for (const sender of senders) sender.land()
    expect(senders.filter(({ landed }) => landed > 0 && landed < largest)).to.have.length.above(5)
    // What is here is answered, and so on: nobody waits for ever.
    for (let left = Infinity; senders.length < left;) {
      left = senders.length
      senders = senders.filter((sender) => !sender.finish())
      clock.advance(0)
    }
    expect(senders).to.deep.equal([])
    expect(admission.bytesInFlight).to.equal(0)
  })

  it('gets the largest request through while all shares are taken', () => {
    for (const each of many(admission, 9)) each.wantAll(MiB)
    const large = new Client(admission)
    expect(large.want(largest)).to.equal(true)
    // And another peer's beside it: the spare room is not one peer's alone.
    const greedy = many(admission, 4)
    expect(greedy.map((each) => each.want(largest))).to.not.include(true)
    expect(new Client(admission, 'another').want(largest)).to.equal(true)
  })

  it('tells who waits in turn, and grants what was asked for', () => {
    const first = new Client(admission)
    const held = first.wantAll(MiB)
    const waiting = many(admission, 30)
    for (const each of waiting) each.wantAll(MiB)
    const before = waiting.map(({ granted }) => granted.length)
    for (let at = 0; at < held; at++) first.room.giveBack(MiB)
    clock.advance(0)
    const gained = waiting.map(({ granted }, at) => granted.length - before[at]!)
    expect(gained.reduce((sum, each) => sum + each, 0)).to.be.at.least(held / 2)
    expect(gained.filter((each) => each > 0).length).to.be.at.least(15)
  })

  it('finds one that can be served behind thousands that cannot', () => {
    const crowd = many(admission, 3000)
    for (const each of crowd) each.wantAll(MiB)
    const modest = new Client(admission)
    expect(modest.wantAll(64 * KiB)).to.be.at.least(1)
    const { length } = modest.granted
    for (const { room } of crowd.slice(0, 3)) {
      room.leave()
      room.giveBack(room.held)
    }
    expect(modest.granted.length).to.equal(length)
    clock.advance(0)
    expect(modest.granted.length).to.equal(length + 1)
  })

  it('forgets who is gone, with what they were given and did not come for', () => {
    const clients = many(admission, 20)
    for (const each of clients) each.wantAll(MiB)
    const waiting = new Client(admission)
    waiting.wantAll(MiB)
    const lazy = admission.join('one', { admitted: () => undefined })
    while (lazy.reserve(MiB));
    for (const { room } of [...clients, waiting]) {
      room.leave()
      room.giveBack(room.held)
    }
    clock.advance(0)
    expect(admission.bytesInFlight).to.be.above(lazy.held)
    lazy.leave()
    lazy.giveBack(lazy.held)
    expect(admission.bytesInFlight).to.equal(0)
    expect(admission.othersWait(null)).to.equal(false)
  })

  it('says who hinders others', () => {
    const much = new Client(admission)
    much.wantAll(MiB)
    expect(much.room.hinders).to.equal(false)
    const others = many(admission, 9)
    for (const each of others) each.wantAll(MiB)
    expect(much.room.hinders).to.equal(true)
    const little = new Client(admission)
    little.want(KiB)
    expect(little.room.hinders).to.equal(false)
  })

  it('serves within small limits what fits into half of them', () => {
    const small = new Admission(100)
    expect(small.largest).to.equal(50)
    const clients = many(small, 3)
    expect(clients.map((each) => each.want(50))).to.deep.equal([true, false, false])
    clients[0]!.room.giveBack(50)
    expect(clients.map(({ granted }) => granted.length)).to.deep.equal([1, 1, 0])
    expect(small.bytesInFlight).to.equal(50)
  })

  it('gives without working shares out only what shares give as well', () => {
    const random = new SeededRandom(7)
    const below = (bytes: number): number => Math.floor(random.fraction() * bytes)
    for (let turn = 0; turn < 2000; turn++) {
      const one = new Admission(below(4096) + 8)
      const clients = [...many(one, 3, 'a'), ...many(one, 2, 'b'), ...many(one, 1, 'c')]
      const rooms = clients.map(({ room }) => room)
      for (const room of rooms) room.charge(below(one.plenty - one.shared))
      const most = one.plenty - one.shared
      for (const room of rooms)
        expect(room.shared + most, `turn ${turn}`).to.be.at.most(one.shareOf(room))
    }
  })
})
